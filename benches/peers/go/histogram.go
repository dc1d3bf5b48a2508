package main

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts microseconds as `sunseo bench` does: 64 buckets for every doubling, exact below 128.
type histogram struct {
	counts [64 * 60]int64
	total  int64
	max    uint64
}

func bucket(micros uint64) int {
	if micros < 128 {
		return int(micros)
	}
	shift := bits.Len64(micros) - 7
	return shift*64 + int(micros>>shift)
}

func upper(bucket int) uint64 {
	if bucket < 128 {
		return uint64(bucket)
	}
	shift := bucket/64 - 1
	return uint64(bucket%64+65)<<shift - 1
}

func (h *histogram) record(d time.Duration) {
	micros := uint64(max(0, d.Microseconds()))
	h.counts[bucket(micros)]++
	h.total++
	h.max = max(h.max, micros)
}

func (h *histogram) merge(other *histogram) {
	for at, count := range other.counts {
		h.counts[at] += count
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

func (h *histogram) ms(share float64) float64 {
	rank := max(1, int64(math.Ceil(float64(h.total)*share)))
	var seen int64
	for at, count := range h.counts {
		seen += count
		if seen >= rank {
			return float64(min(upper(at), h.max)) / 1e3
		}
	}
	return 0
}
