// Limits of several workers: counted in one place, whoever asks, and given back by whoever ends.
import t from 'tap';
import type { Central, CentralQuestion, CentralService } from '../../src/plugin.ts';
import rateLimit from '../../src/plugins/rate-limit.ts';
import { type Granted, rateLimitService } from '../../src/plugins/rate-limit/central-service.ts';
