// Says for every route of its chain, unless the route has a `retry` of its own, when a failed try is followed by another.
import { definePlugin } from '../plugin.ts';
import { RetryOptions, retryPolicy, retryProblems } from '../policies/retry.ts';

export default definePlugin({ name: 'retry', options: RetryOptions, check: retryProblems }, async (app, options) => {
  app.upstream.policy({ retry: retryPolicy(options) });
});
