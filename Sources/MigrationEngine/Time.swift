/// An instant of the machine's monotonic clock, in nanoseconds since an arbitrary origin.
///
/// The engine never reads a clock: every input carries the instant at which it was seen.
public struct MonotonicInstant: Comparable, Hashable, Sendable {
  /// Nanoseconds since the clock's origin.
  public var nanoseconds: Int64

  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  public static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }

  /// The instant `span` later, saturating at the ends of the range.
  public static func + (instant: Self, span: Span) -> Self {
    let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(span.nanoseconds)
    return Self(nanoseconds: overflow ? (span.nanoseconds < 0 ? .min : .max) : sum)
  }

  /// The time from `earlier` to `later`, saturating at the ends of the range.
  public static func - (later: Self, earlier: Self) -> Span {
    let (rest, overflow) = later.nanoseconds.subtractingReportingOverflow(earlier.nanoseconds)
    return Span(nanoseconds: overflow ? (later < earlier ? .min : .max) : rest)
  }
}

/// A length of time in nanoseconds.
public struct Span: Comparable, Hashable, Sendable {
  public var nanoseconds: Int64

  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  public static let zero = Span(nanoseconds: 0)

  /// A span of `count` microseconds, saturating.
  public static func microseconds(_ count: Int64) -> Span { scaled(count, by: 1_000) }

  /// A span of `count` milliseconds, saturating.
  public static func milliseconds(_ count: Int64) -> Span { scaled(count, by: 1_000_000) }

  /// A span of `count` seconds, saturating.
  public static func seconds(_ count: Int64) -> Span { scaled(count, by: 1_000_000_000) }

  /// Whole milliseconds, rounded towards zero.
  public var milliseconds: Int64 { nanoseconds / 1_000_000 }

  /// Whole microseconds, rounded towards zero.
  public var microseconds: Int64 { nanoseconds / 1_000 }

  public static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }

  private static func scaled(_ count: Int64, by factor: Int64) -> Span {
    let (product, overflow) = count.multipliedReportingOverflow(by: factor)
    return Span(nanoseconds: overflow ? (count < 0 ? .min : .max) : product)
  }
}
