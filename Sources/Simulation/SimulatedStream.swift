import MigrationEngine
import MigrationSession

/// One connection between a client and a monitor: bytes in order each way, with a delay, and with
/// everything that a network can do to it.
struct SimulatedStream {
  enum Client: Hashable {
    case session(StreamID)
    case hostProgram
    case stranger
    /// One of those who use the source's monitor all the time.
    case other(Int)
    /// Keeps what it reads, for somebody who types.
    case console
  }

  enum Direction { case toQEMU, toClient }

  let client: Client
  let side: Side
  let monitor: Int
  let delay: Span
  var isOpenAtClient = true
  var isOpenAtQEMU = true
  /// Bytes vanish, and neither end learns of it.
  var isHalfOpen = false
  /// What was on its way when it was cut is lost.
  var isCut = false
  /// Nothing arrives before.
  var stalledUntil = MonotonicInstant(nanoseconds: 0)
  /// How many bytes still pass in a direction before it is cut.
  var bytesBeforeCut: (toQEMU: Int, toClient: Int)?
  private var lastToQEMU = MonotonicInstant(nanoseconds: 0)
  private var lastToClient = MonotonicInstant(nanoseconds: 0)

  init(client: Client, side: Side, monitor: Int, delay: Span) {
    self.client = client
    self.side = side
    self.monitor = monitor
    self.delay = delay
  }

  /// When something sent now arrives: never before what was sent before it.
  mutating func arrival(
    _ direction: Direction, at now: MonotonicInstant, jitter: Span
  ) -> MonotonicInstant {
    let last = direction == .toQEMU ? lastToQEMU : lastToClient
    let arrival = max(last, max(now + delay + jitter, stalledUntil))
    if direction == .toQEMU { lastToQEMU = arrival } else { lastToClient = arrival }
    return arrival
  }

  /// Counts bytes towards a planned cut; answers with how many pass, and whether it is cut there.
  mutating func pass(_ count: Int, _ direction: Direction) -> (passed: Int, isCut: Bool) {
    guard var left = bytesBeforeCut else { return (count, false) }
    let allowed = direction == .toQEMU ? left.toQEMU : left.toClient
    let passed = min(count, allowed)
    if direction == .toQEMU { left.toQEMU -= passed } else { left.toClient -= passed }
    bytesBeforeCut = left
    return (passed, passed < count)
  }
}

/// The connection that the guest travels on.
struct MigrationLink {
  enum State: Hashable { case absent, up, down }

  let delay: Span
  let bytesPerSecond: UInt64
  var state = State.absent
  /// Of several migrations only the newest connection counts.
  var generation = 0
  var isStalled = false
  /// What is sent is taken, and never arrives.
  var vanishes = false
  var closedBySource = false
  var closedByTarget = false
  /// Messages that wait for the end of a stall.
  var waiting: [(from: Side, message: MigrationMessage, bytes: UInt64)] = []
  private var lastToTarget = MonotonicInstant(nanoseconds: 0)
  private var lastToSource = MonotonicInstant(nanoseconds: 0)

  init(delay: Span, bytesPerSecond: UInt64) {
    self.delay = delay
    self.bytesPerSecond = bytesPerSecond
  }

  mutating func arrival(to side: Side, at now: MonotonicInstant) -> MonotonicInstant {
    let arrival = max(side == .target ? lastToTarget : lastToSource, now + delay)
    if side == .target { lastToTarget = arrival } else { lastToSource = arrival }
    return arrival
  }
}
