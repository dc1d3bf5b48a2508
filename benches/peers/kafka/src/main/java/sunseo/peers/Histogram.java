package sunseo.peers;

/** Microseconds, counted as `sunseo bench` counts them: 64 buckets for every doubling, exact below 128. */
final class Histogram {
  private final long[] counts = new long[64 * 60];
  private long total;
  private long max;

  private static int bucket(long micros) {
    if (micros < 128) {
      return (int) micros;
    }
    int shift = 63 - Long.numberOfLeadingZeros(micros) - 6;
    return (int) (shift * 64L + (micros >>> shift));
  }

  private static long upper(int bucket) {
    if (bucket < 128) {
      return bucket;
    }
    int shift = bucket / 64 - 1;
    return ((bucket % 64 + 65L) << shift) - 1;
  }

  synchronized void record(long micros) {
    long value = Math.max(0, micros);
    counts[bucket(value)]++;
    total++;
    max = Math.max(max, value);
  }

  synchronized long count() {
    return total;
  }

  synchronized double ms(double share) {
    long rank = Math.max(1, (long) Math.ceil(total * share));
    long seen = 0;
    for (int bucket = 0; bucket < counts.length; bucket++) {
      seen += counts[bucket];
      if (seen >= rank) {
        return Math.min(upper(bucket), max) / 1e3;
      }
    }
    return 0;
  }

  /** The quantiles that `sunseo bench` reports, under the same names. */
  String json(String name) {
    return String.format(java.util.Locale.ROOT,
        "\"%1$s_p50_ms\": %2$.3f, \"%1$s_p90_ms\": %3$.3f, \"%1$s_p99_ms\": %4$.3f, \"%1$s_p999_ms\": %5$.3f, \"%1$s_max_ms\": %6$.3f",
        name, ms(0.5), ms(0.9), ms(0.99), ms(0.999), ms(1.0));
  }
}
