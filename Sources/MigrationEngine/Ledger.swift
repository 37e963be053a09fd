/// Where every microsecond of the blackout went.
///
/// QEMU stamps its events with its host's wall clock. To put both hosts and our own monotonic clock on
/// one line, each side's offset is bounded from two sides: no event arrives before it was sent, and none
/// takes longer than the shortest round trip seen on that monitor.
public struct Ledger: Sendable {
  /// A stretch of the blackout.
  public struct Part: Hashable, Sendable {
    public var name: String
    /// Microseconds after the source's STOP.
    public var start: Int64
    /// Microseconds.
    public var length: Int64
  }

  /// One QEMU's clock against ours.
  private struct ClockRelation {
    /// Smallest arrival − timestamp seen, microseconds.
    var smallestDelay: Int64?
    /// Shortest round trip of a command, microseconds.
    var shortestRoundTrip: Int64?

    /// Our clock minus QEMU's: the middle of what is possible.
    var offset: Int64? {
      guard let smallestDelay else { return nil }
      return smallestDelay.subtractingReportingOverflow((shortestRoundTrip ?? 0) / 2).partialValue
    }
    var error: Int64 { (shortestRoundTrip ?? 0) / 2 }
  }

  private var sourceClock = ClockRelation()
  private var targetClock = ClockRelation()
  /// Our monotonic clock minus the wall clock that both QEMUs stamp with, microseconds, where both run
  /// on this machine: then nothing has to be estimated.
  var sharedOffset: Int64?

  private var stopped: Int64?
  private var drained: Int64?
  private var continued: Int64?
  private var endsMirrorsFirst = false
  private var sourceCompleted: Int64?
  private var serverStopped: Int64?
  private var resumed: Int64?
  private var handOverAsked: Int64?
  private var handOverAnswered: Int64?
  private var grantWritten: Int64?

  public init() {}

  /// An event with QEMU's timestamp (microseconds since 1970) arrived.
  mutating func eventArrived(_ side: Side, timestamp: Int64, at now: MonotonicInstant) {
    let (delay, overflow) = (now.nanoseconds / 1_000).subtractingReportingOverflow(timestamp)
    guard !overflow else { return }
    change(side) { $0.smallestDelay = min($0.smallestDelay ?? .max, delay) }
  }

  mutating func roundTripMeasured(_ side: Side, _ span: Span) {
    guard span.nanoseconds > 0 else { return }
    change(side) { $0.shortestRoundTrip = min($0.shortestRoundTrip ?? .max, span.microseconds) }
  }

  /// The source's guest stopped; the last STOP before `completed` counts.
  mutating func sourceStopped(timestamp: Int64) { stopped = timestamp }

  /// The guest runs on the source again: there is no blackout (yet).
  mutating func sourceResumed() { stopped = nil }

  mutating func sourceReached(_ status: MigrationStatus, timestamp: Int64) {
    switch status {
    case .preSwitchover: drained = timestamp
    case .completed: sourceCompleted = timestamp
    default: break
    }
  }
  /// `migrate-continue` was written, right after a look at the mirrors or after their end.
  mutating func migrationContinued(endsMirrorsFirst: Bool, at now: MonotonicInstant) {
    continued = now.nanoseconds / 1_000
    self.endsMirrorsFirst = endsMirrorsFirst
  }
  /// The target said that its NBD server is gone.
  mutating func serverStopped(at now: MonotonicInstant) {
    if grantWritten == nil { serverStopped = now.nanoseconds / 1_000 }
  }
  mutating func targetResumed(timestamp: Int64) { if resumed == nil { resumed = timestamp } }
  mutating func handOverAsked(at now: MonotonicInstant) { handOverAsked = now.nanoseconds / 1_000 }
  mutating func handOverAnswered(at now: MonotonicInstant) {
    handOverAnswered = now.nanoseconds / 1_000
  }
  mutating func grantWritten(at now: MonotonicInstant) { grantWritten = now.nanoseconds / 1_000 }

  /// Source STOP → target RESUME, microseconds; nil while one of them is missing.
  public var blackout: Int64? {
    guard let stopped, let resumed else { return nil }
    let shift =
      sharedOffset != nil
      ? 0 : difference(targetClock.offset ?? 0, sourceClock.offset ?? 0)
    return difference(resumed, stopped).addingReportingOverflow(shift).partialValue
  }

  /// How far `blackout` can be off, microseconds: 0 when both QEMUs share a clock.
  public var error: Int64 {
    sharedOffset != nil
      ? 0 : sourceClock.error.addingReportingOverflow(targetClock.error).partialValue
  }

  /// The parts in order of time; empty before the blackout is over.
  ///
  /// They add up to `blackout`. Borders that belong to our own clock (the grant, the hand-over) are kept
  /// between their neighbours, since an estimate may put them a little before or after.
  public var parts: [Part] {
    guard let blackout, let stopped else { return [] }
    var parts: [Part] = []
    var border: Int64 = 0
    func add(_ name: String, until end: Int64?) {
      guard let end else { return }
      let clamped = min(max(end, border), max(blackout, border))
      parts.append(Part(name: name, start: border, length: clamped - border))
      border = clamped
    }
    func ours(_ instant: Int64?) -> Int64? {
      guard let instant, let offset = sharedOffset ?? sourceClock.offset else { return nil }
      return difference(difference(instant, offset), stopped)
    }
    if let drained {
      add("drain of the mirrors", until: difference(drained, stopped))
      add(endsMirrorsFirst ? "end of the mirrors" : "look at the mirrors", until: ours(continued))
    }
    add("last RAM and device state", until: sourceCompleted.map { difference($0, stopped) })
    if let asked = ours(handOverAsked), let grant = ours(grantWritten), asked <= grant {
      add("offering the hand-over", until: asked)
      add("hand-over", until: ours(handOverAnswered))
    }
    if let end = ours(serverStopped), end > border { add("stop of the NBD server", until: end) }
    add("grant on its way", until: ours(grantWritten))
    add("activation", until: blackout)
    return parts
  }

  private mutating func change(_ side: Side, _ body: (inout ClockRelation) -> Void) {
    if side == .source { body(&sourceClock) } else { body(&targetClock) }
  }

  private func difference(_ left: Int64, _ right: Int64) -> Int64 {
    left.subtractingReportingOverflow(right).partialValue
  }
}
