// What the server sends, as types.

import { Value } from './format';

export interface IInfo {
  api_version: number;
  version: string;
  workspace: string;
  exists: boolean;
  /** Who looks at the panel, as the audit log names them. */
  user: string;
  /** Their role; null where there are no roles. */
  role: 'viewer' | 'editor' | 'approver' | null;
  /** Why nothing but reading is answered now; empty if there is no such reason. */
  doubt: string;
}

export interface IRunRow {
  id: string;
  name: string;
  type: string;
  status: string;
  created_at: number;
  duration_s: number | null;
  metrics: [string, Value][];
}

export interface IPage<T> {
  total: number;
  rows: T[];
}

export interface IFailure {
  type: string;
  message: string;
  cell_id: string | null;
  line: number | null;
  traceback: string;
}

export interface ISummary {
  last: Value;
  min: Value;
  max: Value;
  first: Value;
  last_step: number;
  count: number;
  nan_count: number;
}

export interface ICell {
  id: string;
  cell_id: string;
  execution_count: number | null;
  /** What the points that this execution logged call it; empty if it logs none by itself. */
  execution: string;
  /** Only its beginning, unless it was asked for alone. */
  source: string;
  status: string;
  duration_s: number;
  error: IFailure | null;
}

/** A cell with all that is kept of its source. */
export interface IWholeCell extends ICell {
  /** Whether that is what was executed; else secrets were taken out or its end is missing. */
  is_whole: boolean;
  is_cut: boolean;
}

export interface IArtifact {
  id: string;
  name: string;
  size_bytes: number;
  media_type: string;
  digest: string;
}

export interface INode {
  id: string;
  kind: string;
  title: string;
  detail: string;
  status: string;
  /** Distance in the direction of flow: negative is where the run comes from, positive what came of it. */
  depth: number;
}

export interface IRunDetail extends IRunRow {
  parent: string | null;
  note: string;
  cell_id: string | null;
  /** Its notebook as the Jupyter server names it; null if it lies elsewhere or there is none. */
  notebook: string | null;
  params: [string, unknown][];
  tags: [string, string][];
  summary: [string, ISummary][];
  error: IFailure | null;
  cells: ICell[];
  artifacts: IArtifact[];
  lineage: INode[];
}

export interface ISeries {
  metric: string;
  count: number;
  steps: number[];
  values: (number | null)[];
  /** Points that are not finite, one per pixel column: [step, "NaN" | "Infinity" | "-Infinity"]. */
  marks: [number, string][];
  nonfinite: number;
  /** Where, among these points, another cell begins: [step, cell id, execution]; empty texts are no cell. */
  cells: [number, string, string][];
}

export interface IModelRow {
  id: string;
  name: string;
  number: number;
  aliases: string[];
  created_at: number;
  metrics: [string, Value][];
  parent: string | null;
}

export interface IEndpointRow {
  id: string;
  name: string;
  url: string;
  status: string;
  ref: string;
  created_at: number;
}

/** An overview that is kept with a version of a dataset. */
export interface IOverviewRow {
  id: string;
  title: string;
  created_at: number;
  size_bytes: number;
}
