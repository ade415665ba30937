// Tells views that records changed: the server's event on the websocket that Jupyter holds open, and a slow
// beat that keeps the server watching while somebody looks. Nothing happens while nobody does.

import { Event } from '@jupyterlab/services';

/** Identifies our event among Jupyter's. */
export const EVENT = 'https://events.nbops.invalid/changed/v1';

/** Ids of changed records; null means that anything may have changed. */
export type Listener = (subjects: string[] | null) => void;

const BEAT_MS = 20_000;

export class Live {
  constructor(private readonly _events: Event.IManager) {}

  /** Call `listener` on changes until the returned function is called. */
  listen(listener: Listener): () => void {
    this._listeners.add(listener);
    if (this._listeners.size === 1) {
      this._start();
    }
    return () => {
      if (this._listeners.delete(listener) && this._listeners.size === 0) {
        this._stop();
      }
    };
  }

  private _start(): void {
    this._events.stream.connect(this._onEvent, this);
    document.addEventListener('visibilitychange', this._onVisible);
    this._timer = window.setInterval(this._onVisible, BEAT_MS);
  }

  private _stop(): void {
    this._events.stream.disconnect(this._onEvent, this);
    document.removeEventListener('visibilitychange', this._onVisible);
    window.clearInterval(this._timer);
  }

  private _onEvent(_: unknown, event: Event.Emission): void {
    if (event.schema_id === EVENT && !document.hidden) {
      this._tell((event.subjects as unknown as string[] | undefined) ?? null);
    }
  }

  private readonly _onVisible = (): void => {
    if (!document.hidden) {
      this._tell(null);
    }
  };

  private _tell(subjects: string[] | null): void {
    for (const listener of [...this._listeners]) {
      listener(subjects);
    }
  }

  private readonly _listeners = new Set<Listener>();
  private _timer = 0;
}
