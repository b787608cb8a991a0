/**
 * Loads modules of Node, which Deno and Bun have too; undefined in a browser, where a static import of one would keep the
 * whole page from loading.
 */
export const nodeModule: typeof process.getBuiltinModule | undefined =
  globalThis.process?.getBuiltinModule;
