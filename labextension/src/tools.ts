// What the views share, handed over as a Jupyter token.

import { IStateDB } from '@jupyterlab/statedb';
import { TranslationBundle } from '@jupyterlab/translation';
import { Token } from '@lumino/coreutils';

import { Api } from './api';
import { Live } from './live';
import { INotebooks } from './notebooks';

export interface ITools {
  api: Api;
  live: Live;
  notebooks: INotebooks;
  trans: TranslationBundle;
  /** Where views remember what is open; absent in applications without a state database. */
  state: IStateDB | null;
  /** Metrics that the user wants to see first. */
  wished: string[];
  /** Open the page of a run. */
  openRun(id: string): void;
}

export const ITools = new Token<ITools>('nbops:ITools', 'What the nbops views share: requests, changes, texts.');
