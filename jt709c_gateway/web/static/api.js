// Requests to the API, and error messages.

const BASE = new URL("api/v1/", document.baseURI);
const TIMEOUT_MS = 30000;

/** A failed request. `status` is 0 without a response. */
export class ApiError extends Error {
  constructor(status, message, field = null) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** The URL of an API path. An array is a repeated parameter; null is omitted. */
export function address(path, params = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, String(one));
    }
  }
  return url;
}

/** GET a path; returns the decoded JSON or throws ApiError. */
export function get(path, params = {}, signal = null) {
  return ask(address(path, params), {}, signal);
}

/** POST JSON; returns the decoded JSON or throws ApiError. */
export function post(path, body) {
  return ask(address(path), {
    method: "POST",
    headers: { "content-type": "application/json", "x-requested-with": "jt709c" },
    body: JSON.stringify(body),
  });
}

async function ask(url, options, signal = null) {
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
  const content = decoded(text);
  if (!response.ok) throw refusal(response.status, content);
  if (content === null) throw new ApiError(response.status, "the answer is not JSON");
  return content;
}

function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The error of a response with this status and content. */
export function refusal(status, content) {
  const said = content?.error;
  return new ApiError(status, String(said?.message ?? ""), said?.field ?? null);
}

const SENTENCES = {
  0: "The gateway doesn't answer. The page goes on trying.",
  401: "This needs a name and a password. Reload the page to give them.",
  403: "You may not do this here.",
  404: "That isn't known here.",
  429: "Too many questions at once. The page asks again shortly.",
  503: "The gateway is up but can't answer just now, most likely because Redis is away. The page goes on trying.",
};

/** The error message for the user. */
export function sentence(error) {
  if (!(error instanceof ApiError)) return `Something went wrong in this page: ${error?.message ?? error}`;
  const plain = SENTENCES[error.status] ?? `The gateway answered with status ${error.status}.`;
  const said = error.status === 0 ? "" : error.message;
  return said ? `${plain} It says: ${said}` : plain;
}
