// What a state looks like: a sign and a word, so that colour is never alone.

export type Tone = 'ok' | 'bad' | 'warn' | 'live' | 'dim';

export interface IState {
  sign: string;
  word: string;
  tone: Tone;
}

const STATES: Record<string, [string, Tone]> = {
  RUNNING: ['●', 'live'],
  FINISHED: ['✓', 'ok'],
  FAILED: ['✕', 'bad'],
  INTERRUPTED: ['!', 'warn'],
  SUPERSEDED: ['↷', 'dim'],
  STARTING: ['●', 'live'],
  READY: ['✓', 'ok'],
  STOPPED: ['■', 'dim'],
  DEAD: ['✕', 'bad'],
  OK: ['✓', 'ok'],
  ERROR: ['✕', 'bad'],
  PENDING: ['○', 'dim']
};

/** Return sign, word and tone of a state; an unknown one is shown as it is. */
export function stateOf(status: string): IState {
  const [sign, tone] = STATES[status.toUpperCase()] ?? ['·', 'dim'];
  return { sign, tone, word: status.toLowerCase() };
}
