import Platform

/// Why a loop could not do what it was asked.
public enum LoopError: Error, Equatable, Sendable {
  /// A signal handler of the host program ran; call again.
  case interrupted
  /// This process is a fork of the one that made the loop.
  case forked
  /// The loop is closed.
  case closed
  case system(SystemError)
}

/// One thread's set of migrations and QMP clients, behind one pollable descriptor.
///
/// The loop carries out what its members want and tells them what happened. It knows nothing of
/// migrations: what to send and when is decided by the sessions that its members hold. It starts
/// no thread, calls nothing back, and after fork only closes.
public final class Loop {
  /// Bytes that one stream may deliver before the others have their turn.
  public static let bytesPerTurn = 64 << 10
  /// Bytes of bulk that all relays together may carry in one turn; and while a guest of this loop stands,
  /// since what lets it run waits until they are encrypted.
  static let bulkBytesPerTurn = 256 << 10
  static let bulkBytesPerTurnInBlackout = 8 << 10
  /// Turns in a row in which deadlines give way to replies that are still unread.
  static let deadlineDelayLimit = 8
  /// How long a record may wait for guests that stand, nanoseconds.
  static let recordDelayLimit: Int64 = 2_000_000_000

  private let readiness: Readiness
  private let guardian: ForkGuard
  private let buffer: UnsafeMutableRawBufferPointer
  private var watchers = WatcherTable()
  private var members: [ObjectIdentifier: LoopMember] = [:]
  private var deadlines = DeadlineQueue()
  private var dueMembers: [LoopMember] = []
  private var deferred: [LoopMember] = []
  private var events = EventQueue()
  /// Records to be made durable, oldest first, and the instant until which each may wait.
  private var records: [(member: LoopMember, limit: Int64)] = []
  private var standingGuests = 0
  private var delayedTurns = 0
  private var isWaitingForOne = false
  /// Bytes of bulk that may still be carried in this turn.
  private var bulkBytesLeft = 0
  private var isClosed = false

  /// How ssh addresses are reached by what is made from now on.
  public var ssh = SSHOptions()

  public init() throws(SystemError) {
    guardian = try ForkGuard()
    readiness = try Readiness()
    buffer = .allocate(byteCount: Self.bytesPerTurn, alignment: 16)
  }

  deinit {
    close()
    buffer.deallocate()
  }

  /// The descriptor to watch for readability; -1 once closed.
  ///
  /// It is readable exactly while `dispatch` would make progress or `nextEvent` return an event.
  public var descriptor: Int32 { readiness.descriptor }

  /// Whether this process is a fork of the one that made the loop.
  public var isForeign: Bool { guardian.isForeign }

  /// Events that `nextEvent` would return.
  public var waitingEvents: Int { events.count }

  /// Waits for something to do, and does it.
  ///
  /// - Parameter timeoutMilliseconds: the longest wait; 0 never waits, a negative one has no end.
  ///   With events waiting it does not wait either.
  public func dispatch(timeoutMilliseconds: Int32) throws(LoopError) -> Int {
    try turn(timeoutMilliseconds: timeoutMilliseconds)
    return events.count
  }

  /// Takes the oldest event.
  public func nextEvent() throws(LoopError) -> LoopEvent? {
    try check()
    let event = events.removeFirst()
    try settle()
    return event
  }

  /// Dispatches until `isDone` or the end of the time, whatever events pile up in the queue meanwhile.
  ///
  /// - Parameter timeoutMilliseconds: the longest wait; 0 for one turn without waiting, a negative
  ///   one has no end.
  /// - Returns: whether it is done.
  public func run(
    forMilliseconds timeoutMilliseconds: Int64, _ isDone: () -> Bool
  ) throws(LoopError) -> Bool {
    try check()
    let span = timeoutMilliseconds.multipliedReportingOverflow(by: 1_000_000)
    let end = MonotonicClock.now.addingReportingOverflow(span.partialValue)
    let deadline =
      timeoutMilliseconds < 0 ? nil : span.overflow || end.overflow ? .max : end.partialValue
    isWaitingForOne = true
    let failure = turnUntil(deadline, isDone)
    isWaitingForOne = false
    try settle()
    if let failure { throw failure }
    return isDone()
  }

  /// Closes every connection and lets go of every member; a fork only closes its copies.
  ///
  /// Nothing is sent: what QEMU does, it goes on doing, and nobody grants.
  public func close() {
    guard !isClosed else { return }
    isClosed = true
    for member in members.values { member.loopCloses() }
    members = [:]
    deadlines = DeadlineQueue()
    deferred = []
    records = []
    events = EventQueue()
    watchers = WatcherTable()
    readiness.close()
  }

  // MARK: - For members

  /// Refuses in a fork and after the end.
  func check() throws(LoopError) {
    if guardian.isForeign { throw .forked }
    if isClosed { throw .closed }
  }

  func add(_ member: LoopMember) { members[ObjectIdentifier(member)] = member }

  func remove(_ member: LoopMember) {
    members[ObjectIdentifier(member)] = nil
    deadlines.set(member, to: nil)
    deferred.removeAll { $0 === member }
    records.removeAll { $0.member === member }
    events.removeAll(of: member)
    if !guardian.isForeign { try? settle() }
  }

  func watch(
    _ watcher: Watcher, _ descriptor: Descriptor, _ interest: Interest
  ) throws(SystemError) {
    let token = watchers.insert(watcher)
    do throws(SystemError) {
      try readiness.add(descriptor.number, interest, token: token)
      watcher.token = token
    } catch {
      watchers.remove(token)
      throw error
    }
  }

  func change(
    _ watcher: Watcher, _ descriptor: Descriptor, _ interest: Interest
  ) throws(SystemError) {
    guard let token = watcher.token else { return }
    try readiness.modify(descriptor.number, interest, token: token)
  }

  /// To be called before the descriptor is closed. In a fork it changes nothing: the set of watched
  /// descriptors is shared with the parent.
  func unwatch(_ watcher: Watcher, _ descriptor: Descriptor) {
    guard let token = watcher.token else { return }
    watcher.token = nil
    watchers.remove(token)
    if !guardian.isForeign, !isClosed { try? readiness.remove(descriptor.number) }
  }

  func setDeadline(_ member: LoopMember, _ instant: Int64?) {
    deadlines.set(member, to: instant)
  }

  /// Gives the member another turn, after everybody else had one.
  func postpone(_ member: LoopMember) {
    if !deferred.contains(where: { $0 === member }) { deferred.append(member) }
  }

  /// Has the member's record stored in a turn of its own: storing blocks.
  ///
  /// It waits, for a while, until no guest of this loop stands between two hosts.
  func store(_ member: LoopMember) {
    if records.contains(where: { $0.member === member }) { return }
    let (limit, overflow) = MonotonicClock.now.addingReportingOverflow(Self.recordDelayLimit)
    records.append((member, overflow ? .max : limit))
  }

  /// One guest more or less stands between two hosts.
  func guestStands(_ stands: Bool) { standingGuests += stands ? 1 : -1 }

  func post(_ content: LoopEvent.Content, from member: LoopMember, byteCount: Int = 0) {
    events.append(LoopEvent(member: member, content: content, byteCount: byteCount))
  }

  /// Takes what bulk may carry of `wanted` bytes in this turn; 0 when the others are to have theirs.
  func takeBulkBytes(_ wanted: Int) -> Int {
    let taken = min(wanted, bulkBytesLeft)
    bulkBytesLeft -= taken
    return taken
  }

  /// Lends the loop's one read buffer.
  func withBuffer<Result>(_ body: (UnsafeMutableRawBufferPointer) -> Result) -> Result {
    body(buffer)
  }

  /// Brings timer and signal in line; to be called after everything that may change them.
  func settle() throws(LoopError) {
    guard !isClosed else { return }
    do throws(SystemError) {
      let recordLimit = records.first?.limit
      let earliest = [deadlines.earliest, recordLimit].compactMap { $0 }.min()
      try readiness.setTimer(earliest)
      let announcesEvents = !events.isEmpty && !isWaitingForOne
      let mayStore = !records.isEmpty && standingGuests == 0
      try readiness.setSignalled(announcesEvents || mayStore || !deferred.isEmpty)
    } catch {
      throw .system(error)
    }
  }

  // MARK: - Turn

  private func turn(timeoutMilliseconds: Int32) throws(LoopError) {
    try check()
    let count = try wait(timeoutMilliseconds)
    bulkBytesLeft =
      standingGuests > 0 ? Self.bulkBytesPerTurnInBlackout : Self.bulkBytesPerTurn
    runPostponed()
    serve(count)
    // A reply that is already there counts before the deadline that it would miss.
    if count == Readiness.entriesPerWait, delayedTurns < Self.deadlineDelayLimit {
      delayedTurns += 1
    } else {
      delayedTurns = 0
      runDueMembers()
    }
    storeOneRecord()
    try settle()
  }

  /// Monitors before bulk.
  private func serve(_ count: Int) {
    var sawBulk = false
    for index in 0..<count {
      let entry = readiness[index]
      guard let watcher = watchers[entry.token] else { continue }
      if watcher.isBulk { sawBulk = true } else { watcher.becameReady(entry.flags) }
    }
    guard sawBulk else { return }
    for index in 0..<count {
      let entry = readiness[index]
      if let watcher = watchers[entry.token], watcher.isBulk { watcher.becameReady(entry.flags) }
    }
  }

  private func turnUntil(_ deadline: Int64?, _ isDone: () -> Bool) -> LoopError? {
    do throws(LoopError) {
      try settle()
      while !isDone() {
        let rest = remainingMilliseconds(until: deadline)
        try turn(timeoutMilliseconds: rest)
        if rest == 0 { break }
      }
      return nil
    } catch {
      return error
    }
  }

  private func wait(_ timeoutMilliseconds: Int32) throws(LoopError) -> Int {
    let outcome: WaitOutcome
    do throws(SystemError) {
      outcome = try readiness.wait(timeoutMilliseconds: timeoutMilliseconds)
    } catch {
      throw .system(error)
    }
    switch outcome {
    case .ready(let count): return count
    case .interrupted: throw .interrupted
    }
  }

  private func runPostponed() {
    guard !deferred.isEmpty else { return }
    let batch = deferred
    deferred.removeAll(keepingCapacity: true)
    for member in batch { member.continuePostponed() }
  }

  /// Each due member has one turn; one that is due again at once has its next in the next turn.
  private func runDueMembers() {
    let now = MonotonicClock.now
    while let member = deadlines.removeDue(at: now) { dueMembers.append(member) }
    for member in dueMembers { member.deadlineReached() }
    dueMembers.removeAll(keepingCapacity: true)
  }

  private func storeOneRecord() {
    guard let next = records.first, standingGuests == 0 || next.limit <= MonotonicClock.now else {
      return
    }
    records.removeFirst()
    next.member.storeRecord()
  }

  /// Rounded up, so that a wait never ends before its deadline; at most what a wait takes.
  private func remainingMilliseconds(until deadline: Int64?) -> Int32 {
    guard let deadline else { return -1 }
    let (rest, overflow) = deadline.subtractingReportingOverflow(MonotonicClock.now)
    if overflow { return deadline < 0 ? 0 : .max }
    if rest <= 0 { return 0 }
    return Int32(clamping: rest / 1_000_000 + (rest % 1_000_000 == 0 ? 0 : 1))
  }
}
