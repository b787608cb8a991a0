import { Module, Parameter, type ParameterOptions } from "./module.ts";
import type { Tensor } from "./tensor.ts";

/** y = x · weightᵀ, no bias. x [rows, in] → [rows, out]. */
export class Linear extends Module {
  readonly weight: Parameter;

  constructor(inFeatures: number, outFeatures: number, options: ParameterOptions = {}) {
    super();
    this.weight = new Parameter([outFeatures, inFeatures], options);
  }

  forward(x: Tensor): Tensor {
    return x.linear(this.weight.value);
  }
}

/** Rows of a table by token id: ids [rows] → [rows, dim]. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(count: number, dim: number, options: ParameterOptions = {}) {
    super();
    this.weight = new Parameter([count, dim], options);
  }

  forward(ids: Tensor): Tensor {
    return this.weight.value.take(ids);
  }

  /** The table used as an output head, for models that tie the two: [rows, dim] → [rows, count]. */
  head(x: Tensor): Tensor {
    return x.linear(this.weight.value);
  }
}

/** x / √(mean(x²) + eps) × weight (Zhang and Sennrich 2019, arXiv 1910.07467). x [rows, dim]. */
export class RMSNorm extends Module {
  readonly weight: Parameter;
  readonly eps: number;

  constructor(dim: number, eps: number) {
    super();
    this.weight = new Parameter([dim]);
    this.eps = eps;
  }

  forward(x: Tensor): Tensor {
    return x.mul(x.square().mean().add(this.eps).rsqrt()).mul(this.weight.value);
  }
}
