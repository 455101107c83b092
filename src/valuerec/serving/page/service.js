// What is asked of the service, and what is said when it does not answer.

const ROOT = new URL("../", import.meta.url);
const PATIENCE = 15_000; // milliseconds until an answer is given up
const SLOW = 1_500; // milliseconds until it is said that the service is slow
const PAUSES = [2, 4, 8, 15]; // seconds before the same is asked again

let key = null;

/** Send this API key from now on; it is kept in memory only. */
export function useKey(text) {
  key = text || null;
}

/** Why there is no answer: a sentence, and in how many seconds asking again makes sense (null: not by itself). */
export class Trouble extends Error {
  constructor(sentence, { again = true, seconds = null, wantsKey = false } = {}) {
    super(sentence);
    Object.assign(this, { again, seconds, wantsKey });
  }
}

/** The service's answer to a path under its root, as JSON; raises `Trouble`, or the signal's reason. */
export async function request(path, { body, signal } = {}) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key !== null) headers.authorization = `Bearer ${key}`;
  const late = AbortSignal.timeout(PATIENCE);
  const signals = signal ? [signal, late] : [late];
  let answer;
  let text;
  try {
    answer = await fetch(new URL(path, ROOT), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.any(signals),
      cache: "no-store",
      credentials: "same-origin",
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (late.aborted) throw new Trouble(`The service gave no answer in ${PATIENCE / 1000} s.`);
    throw new Trouble("The service does not answer; it may be down, or the network is.");
  }
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    found = undefined;
  }
  if (!answer.ok) throw refusal(answer, found?.error?.message);
  if (found === undefined || found === null || typeof found !== "object") {
    throw new Trouble("The service's answer cannot be read: it is not JSON.");
  }
  return found;
}

function refusal(answer, message) {
  const { status } = answer;
  const why = typeof message === "string" && message ? `: ${message}` : ".";
  const asked = Number(answer.headers.get("retry-after"));
  const seconds = answer.headers.has("retry-after") && Number.isFinite(asked) ? Math.min(120, Math.max(1, asked)) : null;
  if (status === 429) return new Trouble(`The service has too much to do (429)${why}`, { seconds });
  if (status === 503) return new Trouble(`The service cannot answer now (503)${why}`, { seconds });
  if (status === 401 || status === 403) return new Trouble(`The service wants an API key (${status})${why}`, { again: false, wantsKey: true });
  if (status >= 500) return new Trouble(`The service failed (${status})${why}`, { seconds });
  return new Trouble(`The service refused the request (${status})${why}`, { again: false });
}

/**
 * One thing that is asked of the service: a newer question replaces an older one, and what got no answer is asked again,
 * after longer and longer pauses. `report` hears {busy}, {slow}, {trouble, seconds} and {} (all is well).
 */
export class Question {
  constructor(report) {
    this.report = report;
    this.work = null;
    this.controller = null;
    this.failures = 0;
  }

  /** Ask; `work(signal)` resolves once what was answered is shown. */
  ask(work) {
    this.work = work;
    this.failures = 0;
    this.again();
  }

  /** Ask the same now. */
  again() {
    if (this.work === null) return;
    this.stop();
    this.controller = new AbortController();
    this.attempt(this.work, this.controller.signal);
  }

  stop() {
    this.controller?.abort();
    clearTimeout(this.timer);
    clearTimeout(this.slow);
  }

  async attempt(work, signal) {
    this.report({ busy: true });
    this.slow = setTimeout(() => this.report({ busy: true, slow: true }), SLOW);
    try {
      await work(signal);
      if (signal.aborted) return;
      this.failures = 0;
      this.report({});
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Trouble)) {
        this.report({ trouble: new Trouble(`The page could not show the answer: ${error.message}`, { again: false }) });
        throw error;
      }
      const pause = error.seconds ?? PAUSES[Math.min(this.failures, PAUSES.length - 1)];
      this.failures += 1;
      this.report({ trouble: error, seconds: error.again ? pause : null });
      if (error.again) this.timer = setTimeout(() => this.again(), pause * 1000);
    } finally {
      if (!signal.aborted) clearTimeout(this.slow);
    }
  }
}
