package sunseo.peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** Reads a topic from start to end again and again, as `sunseo bench consume`; with `once=1` one time. */
final class Consume {
  private final Arguments arguments;
  private final LongAdder records = new LongAdder();
  private final AtomicReference<Exception> failure = new AtomicReference<>();
  private volatile boolean counting;
  private volatile boolean stop;

  private Consume(Arguments arguments) {
    this.arguments = arguments;
  }

  static String run(Arguments arguments) throws Exception {
    return new Consume(arguments).measure();
  }

  private String measure() throws Exception {
    int consumers = arguments.number("consumers", 2);
    boolean once = arguments.has("once");
    List<Thread> threads = new ArrayList<>();
    try (Admin admin = Admin.create(arguments.client())) {
      List<TopicPartition> all = Topics.partitions(admin, arguments.text("topic"));
      Map<TopicPartition, Long> ends = Topics.offsets(admin, all, OffsetSpec.latest());
      for (int number = 0; number < consumers; number++) {
        List<TopicPartition> mine = new ArrayList<>();
        for (int at = number; at < all.size(); at += consumers) {
          mine.add(all.get(at));
        }
        threads.add(new Thread(() -> read(mine, ends, once)));
      }
    }
    counting = once;
    long start = System.nanoTime();
    threads.forEach(Thread::start);
    if (!once) {
      Thread.sleep((long) (arguments.real("warm-up", 2) * 1000));
      counting = true;
      start = System.nanoTime();
      Thread.sleep((long) (arguments.real("duration", 10) * 1000));
      stop = true;
    } else {
      for (Thread thread : threads) {
        thread.join();
      }
    }
    long count = records.sum();
    double seconds = (System.nanoTime() - start) / 1e9;
    for (Thread thread : threads) {
      thread.join();
    }
    if (failure.get() != null) {
      throw failure.get();
    }
    long payload = arguments.number("record-bytes", 100) + arguments.number("key-bytes", 8);
    return String.format(Locale.ROOT,
        "{\"duration_s\": %.3f, \"records\": %d, \"throughput_records_per_s\": %.1f, \"throughput_mb_per_s\": %.3f}",
        seconds, count, count / seconds, count * payload / seconds / 1e6);
  }

  private void read(List<TopicPartition> mine, Map<TopicPartition, Long> ends, boolean once) {
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(arguments.client())) {
      consumer.assign(mine);
      do {
        consumer.seekToBeginning(mine);
        long left = mine.stream().mapToLong(ends::get).sum();
        while (left > 0 && !stop) {
          int count = consumer.poll(Duration.ofMillis(500)).count();
          left -= count;
          if (counting) {
            records.add(count);
          }
        }
      } while (!once && !stop);
    } catch (Exception error) {
      failure.compareAndSet(null, error);
    }
  }
}
