import Testing

@testable import MigrationEngine

/// When a shared monitor is let go of: one row a situation.
struct MonitorHoldTests {
  /// A moment, told by what is known then.
  struct Row: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var terms = MonitorHold.Terms.transfer(Self.limits)
    var waiting: Int? = 1
    /// Since the monitor was attached, milliseconds.
    var held: Int64 = 1_000
    /// Since somebody was first seen waiting, milliseconds.
    var waited: Int64 = 50
    var remaining: UInt64 = 1 << 30
    var rate: Double? = 100e6
    var isIdle = true
    var act: MonitorHold.Act?

    static let limits = MonitorHold.Limits(downtimeLimitMilliseconds: 300)

    init(_ text: String, _ act: MonitorHold.Act?, _ change: (inout Row) -> Void = { _ in }) {
      testDescription = text
      self.act = act
      change(&self)
    }
  }

  static let rows = [
    Row("nobody waits", nil) { $0.waiting = 0 },
    Row("somebody waits, and much is left", .slowDown),
    Row("a command is on its way, which would be lost", nil) { $0.isIdle = false },
    Row("it was attached a moment ago", nil) { $0.held = 249 },
    Row("it was attached long enough ago", .slowDown) { $0.held = 250 },
    // 100 MB/s for 2.3 s, and 2 MB/s for 35.3 s.
    Row("as much is left as we may leave with", .slowDown) { $0.remaining = 300_600_000 },
    Row("less is left", nil) { $0.remaining = 300_500_000 },
    Row("less is left, and somebody waits for long", .slowDown) {
      $0.remaining = 300_500_000
      $0.waited = 2_000
    },
    Row("so little is left that it may end by itself", .warnThatOthersWait) {
      $0.remaining = 70_000_000
      $0.waited = 2_000
    },
    Row("nothing was sent yet: the rate is not known", nil) { $0.rate = nil },
    Row("the limit is so high that QEMU may stop the guest at once", nil) {
      $0.terms = .transfer(MonitorHold.Limits(downtimeLimitMilliseconds: 2_000_000))
    },
    Row("QEMU is told to reckon with a fast link", nil) {
      $0.terms = .transfer(
        MonitorHold.Limits(downtimeLimitMilliseconds: 300, switchoverBytesPerSecond: 1e10))
    },
    Row("multifd sends more in our absence", nil) {
      $0.remaining = 700_000_000
      $0.terms = .transfer(MonitorHold.Limits(downtimeLimitMilliseconds: 300, usesMultifd: true))
    },
    Row("before RAM travels", .leave) { $0.terms = .free },
    Row("before RAM travels, and nobody waits", nil) {
      $0.terms = .free
      $0.waiting = 0
    },
    Row("in the switchover", nil) { $0.terms = .keep },
    Row("in the switchover, and somebody waits for long", .warnThatOthersWait) {
      $0.terms = .keep
      $0.waited = 2_000
    },
    Row("nobody can tell who waits, and it is held for long", .slowDown) { $0.waiting = nil },
    Row("nobody can tell who waits", nil) {
      $0.waiting = nil
      $0.held = 999
    },
    Row("nobody can tell who waits in the switchover", nil) {
      $0.waiting = nil
      $0.terms = .keep
      $0.held = 60_000
    },
  ]

  static let start = MonotonicInstant(nanoseconds: 5_000_000_000)

  @Test("one row a situation", arguments: rows)
  func row(_ row: Row) {
    var hold = MonitorHold()
    hold.attached(at: Self.start)
    let now = Self.start + .milliseconds(row.held + row.waited)
    hold.clientsWait(row.waiting, at: Self.start + .milliseconds(row.held))
    // What it looks at every now and then is taken first.
    if row.waiting == nil {
      #expect(hold.next(row.terms, isIdle: row.isIdle, at: Self.start + .milliseconds(250)) != nil)
      hold.clientsWait(nil, at: Self.start + .milliseconds(row.held))
    } else {
      _ = hold.next(row.terms, isIdle: false, at: now)
    }
    let moment =
      row.waiting == nil || row.held < 1_000 ? Self.start + .milliseconds(row.held) : now
    hold.progressed(remainingBytes: row.remaining, bytesPerSecond: row.rate, at: moment)
    var act = hold.next(row.terms, isIdle: row.isIdle, at: moment)
    if act == .countWaiting { act = hold.next(row.terms, isIdle: row.isIdle, at: moment) }
    #expect(act == row.act)
  }

  private func waiting(_ remaining: UInt64, _ waited: Int64 = 50) -> (MonitorHold, MonotonicInstant)
  {
    var hold = MonitorHold()
    hold.attached(at: Self.start)
    let seen = Self.start + .milliseconds(1_000)
    hold.clientsWait(1, at: seen)
    let now = seen + .milliseconds(waited)
    _ = hold.next(.transfer(Row.limits), isIdle: false, at: now)
    hold.progressed(remainingBytes: remaining, bytesPerSecond: 100e6, at: now)
    #expect(hold.next(.transfer(Row.limits), isIdle: true, at: now) == .slowDown)
    return (hold, now)
  }

  private func next(_ hold: inout MonitorHold, _ now: MonotonicInstant) -> MonitorHold.Act? {
    let act = hold.next(.transfer(Row.limits), isIdle: true, at: now)
    return act == .countWaiting ? hold.next(.transfer(Row.limits), isIdle: true, at: now) : act
  }

  @Test func itLeavesWhenQEMUSaysAfterwardsThatStillMuchIsLeft() {
    var (hold, now) = waiting(1 << 30)
    now = now + .milliseconds(2)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 100e6, at: now)
    #expect(next(&hold, now) == .leave)
    #expect(hold.isAway)
    // 2 MB/s for what is left: then the switchover might begin.
    #expect(!hold.isAwayForTooLong(at: now + .seconds(500)))
    #expect(hold.isAwayForTooLong(at: now + .seconds(540)))
    hold.attached(at: now + .seconds(1))
    #expect(next(&hold, now + .milliseconds(1_001)) == .speedUp)
  }

  @Test func itStaysWhenLessWasLeftThanItSeemed() {
    var (hold, now) = waiting(1 << 30)
    now = now + .milliseconds(2)
    hold.progressed(remainingBytes: 100_000_000, bytesPerSecond: 100e6, at: now)
    #expect(next(&hold, now) == .speedUp)
    #expect(!hold.isAway)
  }

  @Test func whoWaitsForLongIsLetInOnceQEMUIsKnownToBeSlow() {
    var (hold, now) = waiting(100_000_000, 2_000)
    now = now + .milliseconds(2)
    hold.progressed(remainingBytes: 100_000_000, bytesPerSecond: 100e6, at: now)
    #expect(next(&hold, now) == nil)
    now = now + .milliseconds(150)
    #expect(next(&hold, now) == .askProgress)
    hold.progressed(remainingBytes: 99_900_000, bytesPerSecond: 1e6, at: now)
    #expect(next(&hold, now) == .leave)
  }

  /// Its figures may be as old as its answers are late.
  @Test func aQEMUThatAnswersLateIsLeftAllTheSame() {
    var (hold, now) = waiting(1 << 30)
    now = now + .milliseconds(300)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 100e6, at: now)
    now = now + .milliseconds(300)
    #expect(hold.isAboutToLeave(at: now))
    #expect(next(&hold, now) == .leave)
    #expect(!hold.isAboutToLeave(at: now))
  }

  /// A rate that was only seen slowed down says nothing about how much it sends until it is slow.
  @Test func aQEMUThatWasNeverSeenAtFullRateIsGivenTimeToSlowDown() {
    var hold = MonitorHold()
    hold.attached(at: Self.start)
    var now = Self.start + .milliseconds(1_000)
    hold.clientsWait(1, at: now)
    _ = hold.next(.transfer(Row.limits), isIdle: false, at: now)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 40e3, at: now)
    #expect(hold.next(.transfer(Row.limits), isIdle: true, at: now) == .slowDown)
    now = now + .milliseconds(2)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 40e3, at: now)
    #expect(next(&hold, now) == nil)
    now = now + .milliseconds(298)
    #expect(next(&hold, now) == .askProgress)
    hold.progressed(remainingBytes: 1 << 29, bytesPerSecond: 40e3, at: now)
    #expect(next(&hold, now) == .leave)
  }

  @Test func aQEMUThatDoesNotSlowDownIsNotLeft() {
    var (hold, now) = waiting(100_000_000, 2_000)
    var acts: [MonitorHold.Act] = []
    for _ in 0..<40 {
      now = now + .milliseconds(50)
      hold.progressed(remainingBytes: 100_000_000, bytesPerSecond: 100e6, at: now)
      if let act = next(&hold, now) { acts.append(act) }
    }
    #expect(acts == [.speedUp, .warnThatOthersWait])
    #expect(!hold.isAway)
  }

  @Test func aQEMUThatCannotBeSlowedDownIsNotLeft() {
    var (hold, now) = waiting(1 << 30)
    hold.couldNotSlowDown()
    now = now + .milliseconds(60)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 100e6, at: now)
    #expect(next(&hold, now) == nil)
  }

  @Test func aLostReplyLeavesThePaceToBePutRightFirst() {
    var (hold, now) = waiting(1 << 30)
    hold.lostSightOfPace()
    now = now + .milliseconds(60)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 100e6, at: now)
    #expect(next(&hold, now) == .speedUp)
  }

  @Test func aLongAbsenceIsTold() {
    var (hold, now) = waiting(1 << 30)
    hold.progressed(remainingBytes: 1 << 30, bytesPerSecond: 100e6, at: now + .milliseconds(1))
    #expect(next(&hold, now + .milliseconds(1)) == .leave)
    now = now + .milliseconds(1)
    #expect(hold.nextInstant(after: now) == now + MonitorHold.absenceLookInterval)
    hold.clientsWait(0, at: now)
    #expect(next(&hold, now) == .comeBack)
    #expect(hold.nextInstant(after: now) == now + MonitorHold.absenceWarning)
    #expect(next(&hold, now + .seconds(5)) == .warnThatOthersStay)
    #expect(next(&hold, now + .seconds(6)) == nil)
  }
}
