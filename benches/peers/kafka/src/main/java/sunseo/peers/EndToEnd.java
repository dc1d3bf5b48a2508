package sunseo.peers;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/**
 * Open loop, as `sunseo bench e2e`: a record's latency counts from the time at which it should have been sent by a fixed schedule, late
 * or not (no coordinated omission). Senders look every millisecond what is due.
 */
final class EndToEnd {
  private static final long TICK_NANOS = 1_000_000;
  private static final long DRAIN_NANOS = 30_000_000_000L;

  private final Arguments arguments;
  private final long warmUp;
  private final long end;
  private final Histogram times = new Histogram();
  private final AtomicReference<Exception> failure = new AtomicReference<>();
  private final AtomicLong sent = new AtomicLong();
  private volatile boolean allSent;
  private long received;

  private EndToEnd(Arguments arguments) {
    this.arguments = arguments;
    warmUp = (long) (arguments.real("warm-up", 2) * 1e9);
    end = warmUp + (long) (arguments.real("duration", 10) * 1e9);
  }

  static String run(Arguments arguments) throws Exception {
    return new EndToEnd(arguments).measure();
  }

  private String measure() throws Exception {
    int producers = arguments.number("producers", 1);
    List<TopicPartition> partitions;
    try (Admin admin = Admin.create(arguments.client())) {
      partitions = Topics.partitions(admin, arguments.text("topic"));
    }
    try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(arguments.client())) {
      consumer.assign(partitions);
      consumer.seekToEnd(partitions);
      // where the end is must be known before the first record is sent
      partitions.forEach(consumer::position);
      long start = System.nanoTime();
      List<Thread> threads = new ArrayList<>();
      for (int number = 0; number < producers; number++) {
        long seed = number;
        Thread thread = new Thread(() -> send(seed, producers, start));
        thread.start();
        threads.add(thread);
      }
      Thread waiting = new Thread(() -> {
        for (Thread thread : threads) {
          try {
            thread.join();
          } catch (InterruptedException error) {
            return;
          }
        }
        allSent = true;
      });
      waiting.start();
      receive(consumer, start);
      waiting.join();
    }
    if (failure.get() != null) {
      throw failure.get();
    }
    if (received != sent.get()) {
      throw new IllegalStateException(sent.get() + " records were acknowledged, " + received + " were received");
    }
    long payload = new Load(0, arguments).payloadBytes();
    double seconds = (end - warmUp) / 1e9;
    return String.format(Locale.ROOT,
        "{\"duration_s\": %.3f, \"records\": %d, \"throughput_records_per_s\": %.1f, \"throughput_mb_per_s\": %.3f, %s}",
        seconds, times.count(), times.count() / seconds, times.count() * payload / seconds / 1e6, times.json("latency"));
  }

  private void send(long number, int producers, long start) {
    double rate = arguments.real("rate", 20_000);
    Load load = new Load(number, arguments);
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(arguments.client())) {
      long count = 0;
      for (long tick = start; ; tick = Math.max(tick + TICK_NANOS, System.nanoTime())) {
        for (long now = System.nanoTime(); now < tick; now = System.nanoTime()) {
          LockSupport.parkNanos(tick - now);
        }
        long elapsed = System.nanoTime() - start;
        while (true) {
          // producers take turns
          long due = (long) ((count * producers + number) * 1e9 / rate);
          if (due >= end || failure.get() != null) {
            producer.flush();
            sent.addAndGet(count);
            return;
          }
          if (due > elapsed) {
            break;
          }
          producer.send(load.record(null, due / 1000), (place, error) -> {
            if (error != null) {
              failure.compareAndSet(null, error);
            }
          });
          count++;
        }
      }
    } catch (Exception error) {
      failure.compareAndSet(null, error);
    }
  }

  private void receive(KafkaConsumer<byte[], byte[]> consumer, long start) {
    long last = System.nanoTime();
    while (true) {
      var batch = consumer.poll(Duration.ofMillis(100));
      long now = (System.nanoTime() - start) / 1000;
      for (ConsumerRecord<byte[], byte[]> record : batch) {
        long due = ByteBuffer.wrap(record.value()).getLong();
        received++;
        if (due >= warmUp / 1000) {
          times.record(now - due);
        }
      }
      if (!batch.isEmpty()) {
        last = System.nanoTime();
      }
      long silence = System.nanoTime() - last;
      boolean complete = received == sent.get() && silence >= 1_000_000_000L;
      if (allSent && (complete || failure.get() != null || silence >= DRAIN_NANOS)) {
        return;
      }
    }
  }
}
