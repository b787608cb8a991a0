/** Errors by what the reader can do about them. `code` is stable, `data` is for programs, the message for people. */
export type ErrorData = Readonly<Record<string, unknown>>;

export class TramontaneError extends Error {
  readonly code: string;
  readonly data: ErrorData;

  constructor(code: string, message: string, data: ErrorData = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.data = data;
  }
}

/** The call, file or option is wrong: change it. */
export class InputError extends TramontaneError {}

/** Throws InputErrors about one place: a file, or a part of it. */
export type Refusal = (problem: string) => never;
export function refusal(code: string, where: string, data: ErrorData = { where }): Refusal {
  return (problem) => {
    throw new InputError(code, `${where}: ${problem}`, data);
  };
}

/** The model, format or device lacks something: choose another. */
export class UnsupportedError extends TramontaneError {}

/** Out of pages, memory or context: free something, wait, or ask for less. */
export class ResourceError extends TramontaneError {}

/** The caller aborted. */
export class AbortError extends TramontaneError {}

/** A bug of ours: report it. */
export class InternalError extends TramontaneError {}

/** Throws an InternalError when something we rely on does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InternalError("invariant", `internal error: ${message}`);
}

/** A value that must be there. Errors: InternalError. */
export function found<T>(value: T | undefined, code: string, problem: string): T {
  if (value === undefined) throw new InternalError(code, problem);
  return value;
}

/** Throws an AbortError when the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (!signal?.aborted) return;
  const reason = signal.reason instanceof Error ? signal.reason.message : String(signal.reason);
  throw new AbortError("aborted", `the request was aborted: ${reason}`);
}

/** The message of anything that was thrown. */
export const messageOf = (thrown: unknown): string =>
  thrown instanceof Error ? thrown.message : String(thrown);
