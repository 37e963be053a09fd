import DemoGuest

/// Which QEMU of a pair.
public enum Side: String, Sendable, CaseIterable {
  case source
  case target

  public var other: Side { self == .source ? .target : .source }
}

/// What the guest's ticks on both sides of a migration prove: who runs, who stands, how long the
/// guest was away, and that nothing it did is missing or was done twice.
public struct TickReader: Sendable {
  /// So many new ticks make a running guest: more than a stopped one can have left in the sockets.
  public static let ticksOfRunningGuest = 50

  private let source: QEMUProcess
  private let target: QEMUProcess

  public init(source: QEMUProcess, target: QEMUProcess) {
    self.source = source
    self.target = target
  }

  private func process(_ side: Side) -> QEMUProcess {
    side == .source ? source : target
  }

  /// The last tick of a side.
  public func lastTick(_ side: Side) -> (count: UInt32, time: MonotonicTime)? {
    process(side).serial.lastTick
  }

  /// Whether a side writes new ticks, beginning now.
  public func isTicking(_ side: Side, within limit: Duration = .seconds(60)) -> Bool {
    let serial = process(side).serial
    return serial.waitForTicks(serial.tickCount + Self.ticksOfRunningGuest, upTo: limit)
  }

  /// Throws unless a side's guest stands while the other side's goes on.
  ///
  /// The side's own monitor must not call it running, and it must not write a tick while the other
  /// side writes `ticks` of them. A QEMU that has ended is silent.
  public func assertSilent(
    _ side: Side, whileOtherTicks ticks: Int = 200, within limit: Duration = .seconds(60)
  ) throws {
    let serial = process(side).serial
    try assertNotRunning(side)
    let before = serial.tickCount
    let other = process(side.other).serial
    guard other.waitForTicks(other.tickCount + ticks, upTo: limit) else {
      let runner = process(side.other)
      throw HarnessError(
        "the guest does not tick on the \(side.other.rawValue): "
          + (runner.exit.map { "QEMU ended, \($0)" } ?? "QEMU is there")
          + " \(runner.standardError)")
    }
    try assertNotRunning(side)
    guard serial.tickCount == before else {
      throw HarnessError("the guest ticks on the \(side.rawValue) as well")
    }
  }

  /// Throws unless the guest stands on both sides: no monitor calls it running, nothing ticks.
  public func assertSilentOnBothSides(for duration: Duration = .milliseconds(300)) throws {
    for side in Side.allCases { try assertNotRunning(side) }
    for side in Side.allCases {
      let serial = process(side).serial
      guard !serial.waitForTicks(serial.tickCount + 1, upTo: duration) else {
        throw HarnessError("the guest ticks on the \(side.rawValue)")
      }
    }
  }

  private func assertNotRunning(_ side: Side) throws {
    let process = process(side)
    let state: String
    do {
      state = try process.monitor.runState()
    } catch {
      // A monitor at its end proves nothing by itself, the end of the process does.
      guard process.waitForExit(upTo: .seconds(10)) != nil else { throw error }
      return
    }
    guard state != "running" else {
      throw HarnessError("the \(side.rawValue) says that its guest is running")
    }
  }

  /// How long the guest was away: its last tick on one side to its first on the other.
  ///
  /// Nil before both have happened. Times are those of reading here.
  public func gap(from side: Side = .source) -> Duration? {
    let ticks = history(from: side)
    guard let first = ticks.firstIndex(where: { $0.side == side.other }), first > 0 else {
      return nil
    }
    return ticks[first].time - ticks[first - 1].time
  }

  /// Throws unless the guest's ticks, first on one side and then on the other, count on by one each,
  /// with no unreadable line among them. A start from reset begins a new count.
  ///
  /// The guest's first output may have been lost only where the guest's QEMU itself began late.
  public func assertNothingLost(from side: Side = .source) throws {
    var reader = GuestLineReader()
    var expected: UInt32?
    for piece in pieces(from: side) {
      for line in reader.read(piece.bytes) {
        switch line {
        case .booted: expected = 1
        case .tick(let count):
          guard expected == nil || count == expected else {
            throw HarnessError("tick \(count) came where \(expected ?? 0) was due")
          }
          expected = count &+ 1
        case .written, .refused: break
        }
      }
    }
    if let line = reader.firstUnreadableLine {
      throw HarnessError(
        "\(reader.unreadableLines) lines of the guest are damaged, around tick \(expected ?? 0): "
          + "'\(String(decoding: line, as: UTF8.self))'")
    }
  }

  /// Every line that the guest has written, first on one side and then on the other.
  public func lines(from side: Side = .source) -> [GuestLine] {
    var reader = GuestLineReader()
    return pieces(from: side).flatMap { reader.read($0.bytes) }
  }

  private func history(from side: Side) -> [(side: Side, time: MonotonicTime)] {
    var reader = GuestLineReader()
    var result: [(Side, MonotonicTime)] = []
    for current in [side, side.other] {
      for piece in process(current).serial.pieces {
        for case .tick in reader.read(piece.bytes) { result.append((current, piece.time)) }
      }
    }
    return result
  }

  /// A line may begin on one side and end on the other: only both together read right.
  private func pieces(from side: Side) -> [GuestSerial.Piece] {
    process(side).serial.pieces + process(side.other).serial.pieces
  }
}
