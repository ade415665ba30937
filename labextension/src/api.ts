// The one place that asks the server: URLs under base_url, conditional requests, errors of two lines.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

/** Version of the REST interface that this code speaks. */
export const API_VERSION = 1;

/** What went wrong: `missing` is a server without our extension, `offline` one that does not answer. */
export type FaultKind = 'missing' | 'offline' | 'user' | 'server';

export class Fault extends Error {
  constructor(
    readonly kind: FaultKind,
    message: string,
    readonly hint: string
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | string[] | undefined>;

interface IKept {
  etag: string;
  body: unknown;
}

const KEPT = 40;

export class Api {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  /**
   * Get JSON from our routes.
   *
   * A `background` request was not asked for by the user: it does not keep a server alive
   * that a hub would suspend.
   */
  async get<T>(path: string, params: Params = {}, background = false): Promise<T> {
    const query = queryOf(params);
    const key = `${path}?${query}`;
    const kept = this._kept.get(key);
    if (background) {
      query.set('no_track_activity', '1');
    }
    const url = URLExt.join(this._settings.baseUrl, 'nbops/api/v1', path);
    const headers = kept ? { 'If-None-Match': kept.etag } : undefined;
    const response = await this._ask(`${url}?${query}`, { headers });
    if (response.status === 304 && kept) {
      return kept.body as T;
    }
    const body = await bodyOf(response);
    if (!response.ok) {
      throw faultOf(response.status, body);
    }
    this._keep(key, response.headers.get('ETag'), body);
    return body as T;
  }

  /** Return the address of one of our routes, for a link. */
  address(path: string): string {
    return URLExt.join(this._settings.baseUrl, 'nbops/api/v1', path);
  }

  /** Change something by our routes, and return what they answer. */
  async send<T>(method: 'POST' | 'DELETE', path: string, params: Params = {}, body?: unknown): Promise<T> {
    const url = URLExt.join(this._settings.baseUrl, 'nbops/api/v1', path);
    const init = { method, body: body === undefined ? undefined : JSON.stringify(body) };
    const response = await this._ask(`${url}?${queryOf(params)}`, init);
    const answer = await bodyOf(response);
    if (!response.ok) {
      throw faultOf(response.status, answer);
    }
    return answer as T;
  }

  private async _ask(url: string, init: RequestInit): Promise<Response> {
    try {
      return await ServerConnection.makeRequest(url, init, this._settings);
    } catch (error) {
      throw new Fault('offline', 'The Jupyter server does not answer.', 'Check that it still runs.');
    }
  }

  private _keep(key: string, etag: string | null, body: unknown): void {
    this._kept.delete(key);
    if (etag) {
      this._kept.set(key, { etag, body });
    }
    if (this._kept.size > KEPT) {
      this._kept.delete(this._kept.keys().next().value as string);
    }
  }

  private readonly _kept = new Map<string, IKept>();
}

function queryOf(params: Params): URLSearchParams {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== undefined && item !== '') {
        query.append(key, String(item));
      }
    }
  }
  return query;
}

async function bodyOf(response: Response): Promise<unknown> {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null; // a page of a proxy or of another handler: `faultOf` says so
  }
}

function faultOf(status: number, body: unknown): Fault {
  const { error, hint, message } = (body ?? {}) as { error?: string; hint?: string; message?: string };
  if (error) {
    return new Fault(status < 500 ? 'user' : 'server', error, hint ?? '');
  }
  if (status === 404) {
    return new Fault(
      'missing',
      'The nbops server extension is not loaded.',
      'Run “jupyter server extension enable nbops” and restart the server.'
    );
  }
  if (status === 401 || status === 403) {
    return new Fault('server', 'The Jupyter server refused the request.', 'Log in again.');
  }
  return new Fault('server', `The server answered ${status}: ${message ?? 'no reason given'}.`, 'See the server log.');
}

/** Return the error of any thrown value. */
export function toFault(error: unknown): Fault {
  return error instanceof Fault ? error : new Fault('server', String(error), 'Reload the page.');
}

/** Return what is wrong when the server speaks another version of the interface, or null. */
export function versionFault(theirs: number): Fault | null {
  if (theirs === API_VERSION) {
    return null;
  }
  return new Fault(
    'server',
    `This page speaks version ${API_VERSION} of the nbops interface, the server version ${theirs}.`,
    theirs > API_VERSION ? 'Reload the page.' : 'Restart the Jupyter server.'
  );
}
