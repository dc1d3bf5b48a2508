package sunseo.peers;

import java.nio.ByteBuffer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** The records of `sunseo bench`: random keys, values cut from noise, and a stamp in the first 8 bytes where one is asked for. */
final class Load {
  private static final int FILLER = 1 << 20;
  private final byte[] filler;
  private final int recordBytes;
  private final int keyBytes;
  private final String topic;
  private long state;

  Load(long number, Arguments arguments) {
    state = number * 0x9e3779b97f4a7c15L | 1;
    topic = arguments.text("topic");
    recordBytes = arguments.number("record-bytes", 100);
    keyBytes = arguments.number("key-bytes", 8);
    filler = new byte[FILLER + recordBytes];
    for (int at = 0; at < filler.length; at++) {
      filler[at] = (byte) next();
    }
  }

  private long next() {
    state ^= state >>> 12;
    state ^= state << 25;
    state ^= state >>> 27;
    return state * 0x2545f4914f6cdd1dL;
  }

  int payloadBytes() {
    return recordBytes + keyBytes;
  }

  /** The producer copies into its batch at once, so a value may be cut without a copy of its own only where arrays allow it: they do not. */
  ProducerRecord<byte[], byte[]> record(Integer partition, long stamp) {
    long random = next();
    byte[] value = new byte[recordBytes];
    System.arraycopy(filler, (int) Long.remainderUnsigned(random, FILLER), value, 0, recordBytes);
    if (stamp >= 0) {
      ByteBuffer.wrap(value).putLong(stamp);
    }
    byte[] key = null;
    if (keyBytes > 0) {
      key = new byte[keyBytes];
      for (int at = 0; at < keyBytes; at++) {
        key[at] = (byte) (random >>> 56 - 8 * at);
      }
    }
    return new ProducerRecord<>(topic, partition, key, value);
  }
}
