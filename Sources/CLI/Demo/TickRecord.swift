import DemoGuest

/// What the guest's ticks on its serial ports say, in the order in which they were read: how long the
/// guest was away at each move, and whether it missed a tick or wrote one twice.
struct TickRecord {
  /// One move from machine to machine.
  struct Move: Equatable {
    /// The last tick on the machine that the guest left.
    var lastCount: UInt32
    /// The first on the machine that it came to.
    var firstCount: UInt32
    /// Between reading the two.
    var gapNanoseconds: UInt64
    /// Between two ticks, on average since the guest came to the machine that it left.
    var usualNanoseconds: UInt64
  }

  /// Every move so far.
  private(set) var moves: [Move] = []
  /// How many ticks were read in all.
  private(set) var tickCount: UInt64 = 0
  /// How many ticks did not follow their predecessor's number.
  private(set) var holes = 0
  /// How many ticks came from a machine that the guest had left.
  private(set) var ticksFromElsewhere = 0

  /// What the guest says about its disk.
  private(set) var writes = WriteRecord()

  private struct Tick {
    var machine: Int
    var count: UInt32
    var nanoseconds: UInt64
  }

  private var reader = GuestLineReader()
  private var last: Tick?
  /// The first tick on the machine where the guest is.
  private var first: Tick?

  /// Takes what a machine has written; machines are numbered in the order in which the guest is to
  /// come to them.
  ///
  /// A line may begin on one machine and end on the next: the bytes of all of them make one text.
  mutating func record(_ bytes: some Sequence<UInt8>, from machine: Int, at nanoseconds: UInt64) {
    for line in reader.read(bytes) {
      guard case .tick(let count) = line else {
        writes.record(line)
        continue
      }
      record(Tick(machine: machine, count: count, nanoseconds: nanoseconds))
    }
  }

  private mutating func record(_ tick: Tick) {
    tickCount += 1
    guard let last else {
      (first, self.last) = (tick, tick)
      return
    }
    guard tick.machine >= last.machine else {
      ticksFromElsewhere += 1
      return
    }
    if tick.count != last.count &+ 1 { holes += 1 }
    if tick.machine != last.machine, let first {
      let spans = UInt64(max(last.count &- first.count, 1))
      moves.append(
        Move(
          lastCount: last.count, firstCount: tick.count,
          gapNanoseconds: tick.nanoseconds &- last.nanoseconds,
          usualNanoseconds: (last.nanoseconds &- first.nanoseconds) / spans))
      self.first = tick
    }
    self.last = tick
  }
}
