import { attendKernel } from "./attention/attend.ts";
import { ropeAppendKernel } from "./attention/rope-append.ts";
import type { Kernel } from "./kernel.ts";
import { embed } from "./linear/embed.ts";
import { linearKernels } from "./linear/index.ts";
import { rowKernels } from "./rows.ts";

/** All kernels, the larger meaning before the smaller. */
export const kernels: readonly Kernel[] = [
  ...linearKernels,
  ...rowKernels,
  embed,
  ropeAppendKernel,
  attendKernel,
];
