/** The vocabulary that models are traced to. */
export * from "./source.ts";
export * from "./elementwise.ts";
export * from "./movement.ts";
export * from "./reduce.ts";
export * from "./linear.ts";
export * from "./attention.ts";
