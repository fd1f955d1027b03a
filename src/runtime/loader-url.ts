// Where the module of the loader thread lies. The build has another answer: see scripts/bundle.ts.

export function loaderUrl(): URL {
  return new URL('./loader-thread.ts', import.meta.url);
}
