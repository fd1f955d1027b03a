// Where a piece of the config was written: every part of the model and every problem carries one.
/** Where something was written: `config/shop.yaml:41:11`, or the file alone for TypeScript. */
export interface Place {
  readonly file: string;
  /** 1-based; 0 when unknown. */
  readonly line: number;
  readonly column: number;
}
