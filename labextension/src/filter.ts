// What the text of the filter box means: a query or words to look for. Pure.

export interface IFilter {
  where: string;
  q: string;
}

// A query has a comparison, a search within text, or names one of the spaces.
const COMPARES = /[=<>]/;
const SEARCHES = /(^|[\s)"'])(not\s+)?in\s+([A-Za-z_[({])/;
const SPACES = /(^|[\s(])(params|tags|metrics)(\.\w|\[)/;

/** Return the filter for a text: plain words search in names and ids, all else is a query. */
export function filterOf(text: string): IFilter {
  const trimmed = text.trim();
  const quoted = /["']/.test(trimmed);
  const isQuery = COMPARES.test(trimmed) || SPACES.test(trimmed) || (quoted && SEARCHES.test(trimmed));
  return isQuery ? { where: trimmed, q: '' } : { where: '', q: trimmed };
}
