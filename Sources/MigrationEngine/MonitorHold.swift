/// When a monitor that other programs use too is kept, and when it is let go of.
///
/// QEMU serves one client a monitor, and the others give up after some five seconds. So whoever holds it
/// looks at the listener's queue and gives way, wherever the guest cannot be left standing by that: before
/// RAM travels at once; while RAM travels only after `max-bandwidth` has been lowered so far that the
/// switchover cannot begin before we are back. We stand in the queue ourselves again when all who waited
/// were served: the kernel lets a newcomer overtake those who wait in `connect` for room in it.
struct MonitorHold: Sendable {
  static let lookInterval = Span.milliseconds(50)
  /// How often it is looked where nothing follows from it, or where nobody can tell.
  static let idleLookInterval = Span.milliseconds(500)
  /// It is kept for so long after each attach, or the migration would starve: QEMU, which looks at its
  /// bandwidth each 100 ms, was seen to send at full rate again 200 ms after it was raised.
  static let leastHold = Span.milliseconds(250)
  /// How long it is kept where nobody can tell whether somebody waits.
  static let blindHold = Span.seconds(1)
  /// Who has waited for so long is let in even where the transfer may converge soon; with what that
  /// takes it is less than three seconds.
  static let patience = Span.seconds(2)
  /// The same for those who have seen us go and come back, and may have waited all the time.
  static let laterPatience = Span.milliseconds(700)
  /// Nearer to the switchover than this we stay.
  static let convergenceMargin = Span.seconds(2)
  /// `max-bandwidth` in our absence, bytes a second: QEMU then sends one buffer each 100 ms.
  static let slowBandwidth: Int64 = 100
  /// What such a buffer comes to, bytes a second. Measured: 41 kB (7.2) and 1.3 MB (10.0), and with
  /// multifd 5 MB and 15 MB.
  static let trickle = 2e6
  static let multifdTrickle = 16e6
  /// The absence that a transfer must bear without coming to its end.
  static let leastAbsence = Span.seconds(35)
  /// The longest absence that is planned for.
  static let longestAbsence = Span.seconds(3600)
  /// How often it is looked in our absence whether all were served.
  static let absenceLookInterval = Span.milliseconds(10)
  /// The listener's queue holds so many; further ones are refused, and come again by themselves.
  static let queueLength = 2
  /// How long a queue that was full has to be empty: those who were refused try again each 50 to 100 ms.
  static let refusedInterval = Span.milliseconds(120)
  /// However many wait, we stand in the queue after this.
  static let serviceLimit = Span.milliseconds(500)
  /// How long QEMU may take to notice that it was slowed down.
  static let slowingLimit = Span.seconds(1)
  /// After this long it has noticed.
  static let settlingSpan = Span.milliseconds(300)
  /// How long other questions wait for that.
  static let leavingLimit = Span.seconds(3)
  /// After this long an absence is worth a warning.
  static let absenceWarning = Span.seconds(5)

  /// What the present phase allows.
  enum Terms: Hashable, Sendable {
    /// The monitor is needed.
    case keep
    /// Nothing can happen in our absence that cannot be settled after it.
    case free
    /// RAM travels: the switchover must not begin without us.
    case transfer(Limits)
  }

  /// What decides when QEMU stops the guest.
  struct Limits: Hashable, Sendable {
    var downtimeLimitMilliseconds: Int64
    var usesMultifd = false
    /// `avail-switchover-bandwidth`: QEMU takes it instead of the measured rate; 0: not set.
    var switchoverBytesPerSecond = 0.0

    var trickle: Double { usesMultifd ? MonitorHold.multifdTrickle : MonitorHold.trickle }
    private var seconds: Double { Double(max(downtimeLimitMilliseconds, 0)) / 1_000 }

    /// With so much left at this rate QEMU may begin the switchover.
    func threshold(_ bytesPerSecond: Double) -> Double {
      max(bytesPerSecond, switchoverBytesPerSecond) * seconds
    }
  }

  /// What is to be done, at once; then `next` is asked again.
  enum Act: Hashable, Sendable {
    case countWaiting
    case askProgress
    /// Lower `max-bandwidth`, and ask for the progress after it.
    case slowDown
    case speedUp
    /// Let go of the monitor.
    case leave
    /// Stand in its queue again.
    case comeBack
    /// Somebody has waited for long, and it is kept all the same.
    case warnThatOthersWait
    /// Somebody else keeps it for long.
    case warnThatOthersStay
  }

  private enum State: Hashable, Sendable {
    case held(since: MonotonicInstant)
    /// `until`: from then on the transfer might come to its end.
    case away(since: MonotonicInstant, until: MonotonicInstant?)
  }

  private enum Pace: Hashable, Sendable {
    case full
    case slow(since: MonotonicInstant)
    /// It was slow before we left, or a reply was lost.
    case unknown
  }

  private struct Figures: Sendable {
    var remainingBytes: Double
    var bytesPerSecond: Double?
    var at: MonotonicInstant
  }

  private var state: State?
  /// We stand in the queue ourselves.
  private var isComingBack = false
  /// nil: nobody can tell.
  private var waiting: Int? = 0
  private var waitingSince: MonotonicInstant?
  /// Others may have been refused, and nobody sees them wait.
  private var queueWasFull = false
  private var emptySince: MonotonicInstant?
  private var nextLook: MonotonicInstant?
  private var askedAt: MonotonicInstant?
  private var figures: Figures?
  private var highestRate = 0.0
  private var pace = Pace.full
  private var cannotSlowDown = false
  /// It was slowed down for somebody who had waited for long, though the transfer may converge soon.
  private var isForced = false
  private var wasForcedInVain = false
  private var hasBeenForced = false
  private var hasWarned = false

  // MARK: - What is known

  var isAway: Bool { if case .away = state { true } else { false } }

  /// How long we have been away.
  func absence(at now: MonotonicInstant) -> Span {
    if case .away(let since, _) = state { now - since } else { .zero }
  }

  /// It is to be let go of, for which nothing may be on its way: whatever else is asked now would keep us
  /// here, for ever where QEMU takes longer to answer than we to ask again.
  func isAboutToLeave(at now: MonotonicInstant) -> Bool {
    guard case .held = state else { return false }
    if case .slow(let since) = pace, now - since < Self.leavingLimit { return true }
    guard let waiting, waiting > 0, let waitingSince else { return false }
    return now - waitingSince < Self.leavingLimit
  }

  /// From now on the switchover might begin without us.
  func isAwayForTooLong(at now: MonotonicInstant) -> Bool {
    if case .away(_, let until?) = state { now >= until } else { false }
  }

  /// When `next` has something to say without anything else happening.
  func nextInstant(after now: MonotonicInstant) -> MonotonicInstant? {
    let instants: [MonotonicInstant?]
    switch state {
    case nil: return nil
    case .held: instants = [nextLook]
    case .away(let since, let until):
      instants = [isComingBack ? nil : nextLook, since + Self.absenceWarning, until]
    }
    return instants.compactMap { $0 }.filter { $0 > now }.min()
  }

  // MARK: - What happened

  /// The monitor greeted.
  mutating func attached(at now: MonotonicInstant) {
    state = .held(since: now)
    waiting = 0
    waitingSince = nil
    queueWasFull = false
    emptySince = nil
    nextLook = now + Self.leastHold
    if pace != .full { pace = .unknown }
    figures = nil
    askedAt = nil
    isForced = false
    wasForcedInVain = false
    hasWarned = false
  }

  /// So many clients stand in the listener's queue; nil: nobody can tell.
  mutating func clientsWait(_ count: Int?, at now: MonotonicInstant) {
    waiting = count
    if let count, count >= Self.queueLength { queueWasFull = true }
    if let count, count > 0 {
      waitingSince = waitingSince ?? now
      emptySince = nil
    } else {
      emptySince = emptySince ?? now
      waitingSince = nil
      wasForcedInVain = false
    }
  }

  /// What `query-migrate` says while RAM travels.
  mutating func progressed(
    remainingBytes: UInt64, bytesPerSecond: Double?, at now: MonotonicInstant
  ) {
    figures = Figures(
      remainingBytes: Double(remainingBytes), bytesPerSecond: bytesPerSecond, at: now)
    highestRate = max(highestRate, bytesPerSecond ?? 0)
  }

  /// QEMU refused to be slowed down.
  mutating func couldNotSlowDown() {
    cannotSlowDown = true
    pace = .full
  }

  /// The reply to a change of the pace was lost.
  mutating func lostSightOfPace() { pace = .unknown }

  // MARK: - What follows

  /// - Parameter isIdle: no command is on its way, which would be lost.
  mutating func next(_ terms: Terms, isIdle: Bool, at now: MonotonicInstant) -> Act? {
    switch state {
    case nil:
      return nil
    case .away(let since, _):
      if !isComingBack, let act = comeBack(since, at: now) { return act }
      guard !hasWarned, now >= since + Self.absenceWarning else { return nil }
      hasWarned = true
      return .warnThatOthersStay
    case .held(let since):
      if let nextLook, now >= nextLook {
        let isIdleLook = terms == .keep || waiting == nil
        self.nextLook = now + (isIdleLook ? Self.idleLookInterval : Self.lookInterval)
        return .countWaiting
      }
      // QEMU does not stay slow because there is always something on its way.
      if case .transfer = terms, pace == .unknown { return speedUp() }
      guard isIdle else { return nil }
      return hold(terms, since: since, at: now)
    }
  }

  private mutating func comeBack(_ since: MonotonicInstant, at now: MonotonicInstant) -> Act? {
    if areServed(at: now) || now >= since + Self.serviceLimit {
      isComingBack = true
      return .comeBack
    }
    guard let nextLook, now >= nextLook else { return nil }
    self.nextLook = now + Self.absenceLookInterval
    return .countWaiting
  }

  private func areServed(at now: MonotonicInstant) -> Bool {
    guard let waiting else { return true }
    guard waiting == 0 else { return false }
    return !queueWasFull || emptySince.map { now >= $0 + Self.refusedInterval } ?? false
  }

  private mutating func hold(
    _ terms: Terms, since: MonotonicInstant, at now: MonotonicInstant
  ) -> Act? {
    let isWanted =
      waiting.map { $0 > 0 && now >= since + Self.leastHold } ?? (now >= since + Self.blindHold)
    let patience = hasBeenForced ? Self.laterPatience : Self.patience
    let isOverdue = isWanted && now >= (waitingSince ?? since) + patience
    switch terms {
    case .keep: break
    case .free where isWanted: return leave(until: nil, at: now)
    case .free: break
    case .transfer(let limits):
      if pace != .full, !isWanted { return speedUp() }
      if isWanted, let act = giveWay(limits, isOverdue: isOverdue, at: now) { return act }
      if pace != .full { return nil }
    }
    guard isOverdue, waitingSince != nil, !hasWarned else { return nil }
    hasWarned = true
    return .warnThatOthersWait
  }

  private mutating func giveWay(
    _ limits: Limits, isOverdue: Bool, at now: MonotonicInstant
  ) -> Act? {
    guard !cannotSlowDown else { return nil }
    // Once it is slow, little changes in a second, and a QEMU that answers late is left all the same.
    let longestAge = pace == .full ? Self.lookInterval : Self.slowingLimit
    guard let figures, figures.at >= askedAt ?? figures.at, now - figures.at < longestAge else {
      if let askedAt, now - askedAt < Self.lookInterval { return nil }
      askedAt = now
      return .askProgress
    }
    if case .slow(let slowedAt) = pace {
      return leaveOrGoOn(figures, limits, slowedAt: slowedAt, at: now)
    }
    let mayForce = isOverdue && !wasForcedInVain && figures.remainingBytes >= floor(limits)
    guard isFar(figures, limits) || mayForce else { return nil }
    isForced = !isFar(figures, limits)
    pace = .slow(since: now)
    askedAt = now
    self.figures = nil
    return .slowDown
  }

  /// It was slowed down, and QEMU has said since how much is left.
  private mutating func leaveOrGoOn(
    _ figures: Figures, _ limits: Limits, slowedAt: MonotonicInstant, at now: MonotonicInstant
  ) -> Act? {
    // Where it was never seen at full rate, nobody can tell what it sends until it is slow.
    let mayBeUnmeasured =
      highestRate <= 2 * limits.trickle && figures.at - slowedAt < Self.settlingSpan
    if !isForced {
      if mayBeUnmeasured { return askAgain(figures, at: now) }
      return isFar(figures, limits) ? leave(figures, limits, at: now) : speedUp()
    }
    // QEMU measures its rate, and decides by it, once a tenth of a second.
    let isSlow = figures.bytesPerSecond.map { $0 <= 2 * limits.trickle } ?? false
    if isSlow, !mayBeUnmeasured, figures.remainingBytes >= floor(limits) {
      return leave(figures, limits, at: now)
    }
    guard now - slowedAt >= Self.slowingLimit || figures.remainingBytes < floor(limits) else {
      return askAgain(figures, at: now)
    }
    wasForcedInVain = true
    return speedUp()
  }

  /// What QEMU said does not tell yet.
  private mutating func askAgain(_ figures: Figures, at now: MonotonicInstant) -> Act? {
    guard now - max(figures.at, askedAt ?? figures.at) >= Self.lookInterval else { return nil }
    askedAt = now
    self.figures = nil
    return .askProgress
  }

  /// Whether more is left than QEMU could send in the margin and in our absence.
  private func isFar(_ figures: Figures, _ limits: Limits) -> Bool {
    guard highestRate > 0 else { return false }
    let margin = highestRate * Double(Self.convergenceMargin.milliseconds) / 1_000
    return figures.remainingBytes
      >= limits.threshold(highestRate) + margin + floor(limits)
  }

  /// What must be left for the transfer not to end in our absence.
  private func floor(_ limits: Limits) -> Double {
    limits.threshold(limits.trickle) + limits.trickle
      * Double(Self.leastAbsence.milliseconds) / 1_000
  }

  private mutating func leave(
    _ figures: Figures, _ limits: Limits, at now: MonotonicInstant
  ) -> Act {
    let bytes = figures.remainingBytes - limits.threshold(limits.trickle)
    let seconds = min(bytes / limits.trickle, Double(Self.longestAbsence.milliseconds) / 1_000)
    return leave(until: figures.at + .milliseconds(Int64(max(seconds, 0) * 1_000)), at: now)
  }

  private mutating func leave(until: MonotonicInstant?, at now: MonotonicInstant) -> Act {
    state = .away(since: now, until: until)
    nextLook = now + Self.absenceLookInterval
    isComingBack = false
    hasBeenForced = isForced
    hasWarned = false
    return .leave
  }

  private mutating func speedUp() -> Act {
    pace = .full
    isForced = false
    figures = nil
    return .speedUp
  }
}
