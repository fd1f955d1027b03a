// Says for every request of its chain by what the outcome is judged; which endpoint is left out, the service decides.
import { definePlugin } from '../plugin.ts';
import { OutlierOptions, outlierPolicy, outlierProblems } from '../policies/outlier-detection.ts';

export default definePlugin(
  { name: 'outlier-detection', options: OutlierOptions, check: outlierProblems },
  async (app, options) => {
    app.upstream.policy({ outlierDetection: outlierPolicy(options) });
  },
);
