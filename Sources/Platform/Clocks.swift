import Glibc

/// The clock for deadlines: it never jumps and stands still for no suspended process.
public enum MonotonicClock {
  /// Nanoseconds of `CLOCK_MONOTONIC`, the clock that `Readiness` keeps its timer by.
  public static var now: Int64 { nanoseconds(of: CLOCK_MONOTONIC) }
}

/// The clock of the host's calendar, by which QEMU stamps its events.
public enum WallClock {
  /// Microseconds since 1970-01-01T00:00:00Z.
  public static var nowMicroseconds: Int64 { nanoseconds(of: CLOCK_REALTIME) / 1_000 }
}

private func nanoseconds(of clock: clockid_t) -> Int64 {
  var time = timespec()
  // Both clocks exist on every Linux; the call cannot fail with a valid pointer.
  clock_gettime(clock, &time)
  return Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
}
