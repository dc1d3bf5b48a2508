package sunseo.peers;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/** Closed loop, measured by the ends of the partitions, as `sunseo bench produce`. */
final class Produce {
  private static final int SAMPLE_EVERY = 128;

  private final Arguments arguments;
  private final Histogram times = new Histogram();
  private final AtomicReference<Exception> failure = new AtomicReference<>();
  private volatile boolean stop;
  private volatile long from = Long.MAX_VALUE;

  private Produce(Arguments arguments) {
    this.arguments = arguments;
  }

  static String run(Arguments arguments) throws Exception {
    return new Produce(arguments).measure();
  }

  private String measure() throws Exception {
    int producers = arguments.number("producers", 1);
    long payload = new Load(0, arguments).payloadBytes();
    long megabytes = arguments.number("megabytes", 0);
    long share = megabytes == 0 ? Long.MAX_VALUE : megabytes * 1_000_000 / payload / producers + 1;
    try (Admin admin = Admin.create(arguments.client())) {
      List<TopicPartition> partitions = Topics.partitions(admin, arguments.text("topic"));
      long first = Topics.records(admin, partitions);
      long before = first;
      long start = System.nanoTime();
      List<Thread> threads = new ArrayList<>();
      for (int number = 0; number < producers; number++) {
        long seed = number;
        Thread thread = new Thread(() -> send(seed, share));
        thread.start();
        threads.add(thread);
      }
      if (megabytes == 0) {
        Thread.sleep((long) (arguments.real("warm-up", 2) * 1000));
        before = Topics.records(admin, partitions);
        start = System.nanoTime();
        from = start;
        Thread.sleep((long) (arguments.real("duration", 10) * 1000));
      } else {
        from = start;
        for (Thread thread : threads) {
          thread.join();
        }
      }
      long after = Topics.records(admin, partitions);
      double seconds = (System.nanoTime() - start) / 1e9;
      stop = true;
      for (Thread thread : threads) {
        thread.join();
      }
      if (failure.get() != null) {
        throw failure.get();
      }
      long all = Topics.records(admin, partitions) - first;
      return String.format(Locale.ROOT,
          "{\"duration_s\": %.3f, \"records\": %d, \"records_in_all\": %d, \"throughput_records_per_s\": %.1f, \"throughput_mb_per_s\": %.3f, %s}",
          seconds, after - before, all, (after - before) / seconds, (after - before) * payload / seconds / 1e6, times.json("acknowledged"));
    }
  }

  private void send(long number, long share) {
    Load load = new Load(number, arguments);
    int inFlight = arguments.number("in-flight", 0);
    Semaphore room = new Semaphore(inFlight == 0 ? Integer.MAX_VALUE : inFlight);
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(arguments.client())) {
      for (long sent = 0; sent < share && !stop && failure.get() == null; sent++) {
        boolean sampled = inFlight > 0 || sent % SAMPLE_EVERY == 0;
        room.acquire();
        long at = System.nanoTime();
        producer.send(load.record(null, -1), (place, error) -> {
          room.release();
          if (error != null) {
            failure.compareAndSet(null, error);
          } else if (sampled && at >= from) {
            times.record((System.nanoTime() - at) / 1000);
          }
        });
      }
      producer.flush();
    } catch (Exception error) {
      failure.compareAndSet(null, error);
    }
  }
}
