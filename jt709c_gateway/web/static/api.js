// Requests to the API, and error messages.

const BASE = new URL("api/v1/", document.baseURI);
// fetch refuses a URL with the credentials of an address such as http://user:password@host/. The browser keeps them.
BASE.username = BASE.password = "";
const TIMEOUT_MS = 30000;

/** Fires `away`, with their numbers as `detail`, when an answer lacks what is in some partitions of the store. */
export const answers = new EventTarget();

/** A failed request. `status` is 0 without a response. */
export class ApiError extends Error {
  constructor(status, message, field = null) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** The URL of an API path. An array is a repeated parameter; null is omitted. */
export function apiUrl(path, params = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, String(one));
    }
  }
  return url;
}

/** GET a path; returns the parsed JSON or throws ApiError. */
export function get(path, params = {}, signal = null) {
  return request(apiUrl(path, params), {}, signal);
}

/** POST JSON; returns the parsed JSON or throws ApiError. */
export function post(path, body) {
  return write("POST", path, body);
}

/** PUT JSON; returns the parsed JSON or throws ApiError. */
export function put(path, body) {
  return write("PUT", path, body);
}

/** DELETE a path; returns the parsed JSON or throws ApiError. */
export function remove(path) {
  return write("DELETE", path, null);
}

function write(method, path, body) {
  return request(apiUrl(path), {
    method,
    headers: { "content-type": "application/json", "x-requested-with": "jt709c" },
    body: body === null ? null : JSON.stringify(body),
  });
}

async function request(url, options, signal = null) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let response;
  let text;
  try {
    response = await fetch(url, {
      ...options,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: "same-origin",
      redirect: "error",
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, limit.aborted ? "no answer within 30 seconds" : "no connection");
  }
  const content = parseJson(text);
  const away = content?.partitions_away;
  if (away?.length) answers.dispatchEvent(new CustomEvent("away", { detail: away }));
  if (!response.ok) throw errorOf(response.status, content);
  if (content === null) throw new ApiError(response.status, "the answer is not JSON");
  return content;
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The error of a response with this status and content. */
export function errorOf(status, content) {
  const said = content?.error;
  return new ApiError(status, String(said?.message ?? ""), said?.field ?? null);
}

const SENTENCES = {
  0: "The gateway doesn't answer. The page keeps trying.",
  401: "This needs a user name and a password. Reload the page to enter them.",
  403: "You are not allowed to do this here.",
  404: "This is not known here.",
  429: "Too many requests. The page tries again shortly.",
  503: "The gateway can't answer now, most likely because Redis is away. The page keeps trying.",
};

/** The error message for the user. */
export function errorText(error) {
  if (!(error instanceof ApiError)) return `Something went wrong in this page: ${error?.message ?? error}`;
  const plain = SENTENCES[error.status] ?? `The gateway answered with status ${error.status}.`;
  const said = error.status === 0 ? "" : error.message;
  return said ? `${plain} Its message: ${said}` : plain;
}
