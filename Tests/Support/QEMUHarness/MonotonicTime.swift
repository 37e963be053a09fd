import Glibc

/// A reading of the system's monotonic clock, the same one that the library uses.
public struct MonotonicTime: Sendable, Comparable {
  /// Nanoseconds since an arbitrary moment, by `CLOCK_MONOTONIC`.
  public let nanoseconds: UInt64

  public init(nanoseconds: UInt64) {
    self.nanoseconds = nanoseconds
  }

  public static var now: MonotonicTime {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
  }

  public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
    left.nanoseconds < right.nanoseconds
  }

  public static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
    let nanoseconds = Int64(clamping: duration / .nanoseconds(1))
    return MonotonicTime(nanoseconds: UInt64(max(0, Int64(time.nanoseconds) + nanoseconds)))
  }

  public static func - (left: MonotonicTime, right: MonotonicTime) -> Duration {
    .nanoseconds(Int64(left.nanoseconds) - Int64(right.nanoseconds))
  }
}

extension Duration {
  /// The duration in milliseconds, for printing.
  public var milliseconds: Double {
    self / .milliseconds(1)
  }
}

extension Int64 {
  fileprivate init(clamping value: Double) {
    self = value >= 9e18 ? .max : value <= -9e18 ? .min : Int64(value)
  }
}
