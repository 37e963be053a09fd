// Local disks: bringing their mirrors in sync, and ending them.

extension MigrationEngine {
  var storage: StorageOptions { options.storage }

  /// Releases on which the order with one round trip less is backed by the long test run.
  static let releasesWithFastOrder: [ClosedRange<QEMURelease>] = [
    QEMURelease(7, 2)...QEMURelease(7, 2, 99), QEMURelease(10, 0)...QEMURelease(10, 0, 99),
  ]

  private enum MirroringStep {
    static let exporting = 0
    static let connecting = 1
    static let comparing = 2
    static let starting = 3
    static let syncing = 4
    static let looking = 5
  }

  /// All is set up; what is left is to wait.
  var mirrorsAreSyncing: Bool { step == MirroringStep.syncing }

  mutating func beginMirroring(_ effects: inout [EngineEffect]) {
    alarms.set(.step, now + Self.stepLimit)
    alarms.set(.poll, nextReport)
    if let address = storage.listenAddress {
      ask(.nbdServerStart(address), .target, &effects)
    }
    for mirror in mirrors.mirrors {
      guard let node = mirror.disk.targetNode else { continue }
      mirrors.mirrors[mirror.index].exportIsAdded = true
      ask(
        .blockExportAdd(
          id: MirrorNames.export(mirror.index), node: node, name: mirror.disk.exportName),
        .target, &effects)
    }
  }

  mutating func decideMirroring(_ effects: inout [EngineEffect]) -> MigrationPhase {
    if let failure = mirroringFailure(&effects) {
      undoReason = failure
      return .undoing
    }
    if cancelRequested { return .undoing }
    guard source.isConnected else { return .mirroring }
    switch step {
    case MirroringStep.exporting:
      guard awaited.isEmpty else { break }
      step = MirroringStep.connecting
      connectMirrors(&effects)
      fallthrough
    case MirroringStep.connecting:
      guard awaited.isEmpty else { break }
      step = MirroringStep.comparing
      ask(.queryBlockNodes, .source, &effects)
      ask(.queryBlockDevices, .source, &effects)
    case MirroringStep.comparing:
      guard awaited.isEmpty else { break }
      step = MirroringStep.starting
      if let failure = sizeMismatch() {
        undoReason = failure
        return .undoing
      }
      startMirrors(&effects)
      fallthrough
    case MirroringStep.starting:
      guard awaited.isEmpty else { break }
      step = MirroringStep.syncing
      alarms.clear(.step)
      alarms.set(.poll, now + Self.reportInterval)
      if let limit = storage.syncDeadline { alarms.set(.transferLimit, now + limit) }
      poll(.queryBlockJobs, .source, &effects)
    case MirroringStep.looking:
      // The last look before the guest may be stopped, where a dead connection would hold it up.
      guard awaited.isEmpty else { break }
      if mirrors.stall(at: now) == nil { return .transferring }
      lookAgain(&effects)
    default:
      awaitSync(&effects)
    }
    return .mirroring
  }

  private mutating func connectMirrors(_ effects: inout [EngineEffect]) {
    guard let address = storage.address else { return }
    for position in mirrors.mirrors.indices where mirrors.mirrors[position].isOurs {
      let mirror = mirrors.mirrors[position]
      mirrors.mirrors[position].nodeIsAdded = true
      ask(
        .blockdevAdd(
          node: MirrorNames.node(mirror.index), address: address, exportName: mirror.disk.exportName
        ),
        .source, &effects)
    }
  }

  private func sizeMismatch() -> Failure? {
    for mirror in mirrors.mirrors where mirror.isOurs {
      guard let node = mirror.node,
        let from = sourceNodes.first(where: { $0.name == mirror.disk.device }),
        let to = sourceNodes.first(where: { $0.name == node })
      else { continue }
      if from.virtualSize != to.virtualSize {
        return Failure(
          .mismatch,
          text: "disk '\(mirror.disk.device)' has \(from.virtualSize) bytes on the source and "
            + "\(to.virtualSize) on the target (export '\(mirror.disk.exportName)')")
      }
      if to.isReadOnly {
        return Failure(
          .targetUnfit, side: .target,
          text: "export '\(mirror.disk.exportName)' on the target is read-only")
      }
    }
    return nil
  }

  private mutating func startMirrors(_ effects: inout [EngineEffect]) {
    for position in mirrors.mirrors.indices where mirrors.mirrors[position].isOurs {
      let mirror = mirrors.mirrors[position]
      mirrors.mirrors[position].state = .running
      mirrors.mirrors[position].isWriteBlocking = !canChangeMode
      ask(
        .blockdevMirror(
          job: mirror.jobID, device: mirror.disk.device, target: MirrorNames.node(mirror.index),
          speed: mirror.disk.bandwidthBytesPerSecond, writeBlocking: !canChangeMode),
        .source, &effects)
    }
  }

  /// From 8.2 on a mirror copies in the background until it is ready, which costs the guest less, and
  /// is made write-blocking then.
  private var canChangeMode: Bool { source.release.map { $0 >= QEMURelease(8, 2) } ?? false }

  /// `blockdev-mirror` was refused: `drive-mirror` suits drives of the older kind.
  mutating func mirrorRefused(
    _ job: String, _ refusal: Refusal, _ effects: inout [EngineEffect]
  ) {
    guard phase == .mirroring, let address = storage.address,
      let mirror = mirrors.mirrors.first(where: { $0.jobID == job }), mirror.nodeIsAdded
    else { return }
    effects.append(
      .log(
        "source refused 'blockdev-mirror' for '\(mirror.disk.device)': \(refusal.text); using drive-mirror"
      ))
    mirrors.change(job) { $0.nodeIsAdded = false }
    ask(.blockdevDel(node: MirrorNames.node(mirror.index)), .source, &effects)
    ask(
      .driveMirror(
        job: job, device: mirror.disk.device, address: address, exportName: mirror.disk.exportName,
        node: MirrorNames.node(mirror.index), speed: mirror.disk.bandwidthBytesPerSecond,
        writeBlocking: !canChangeMode),
      .source, &effects)
  }

  private mutating func awaitSync(_ effects: inout [EngineEffect]) {
    if mirrors.areAllReady, target.isConnected {
      let background = mirrors.mirrors.filter { !$0.isWriteBlocking }
      if background.isEmpty || modeChangeAsked || !canChangeMode {
        guard awaited.isEmpty else { return }
        step = MirroringStep.looking
        poll(.queryBlockJobs, .source, &effects)
      } else {
        // Mirrors that copy in the background keep a dirty bitmap past STOP.
        makeWriteBlocking(&effects)
      }
    } else if alarms.takeDue(.poll, at: now) {
      alarms.set(.poll, nextReport)
      endChases(&effects)
      poll(.queryBlockJobs, .source, &effects)
      effects.append(.progressed)
    }
  }

  /// A copy in the background is never done where the guest writes again within the round trip that the
  /// last few bytes take: from here on each of its writes waits for the target, as it would from ready on.
  private mutating func endChases(_ effects: inout [EngineEffect]) {
    guard canChangeMode else { return }
    for mirror in mirrors.chasing(for: .seconds(1), at: now)
    where !awaited.contains(.blockJobChange(job: mirror.jobID), .source) {
      effects.append(
        .log("the guest keeps ahead of the mirror of '\(mirror.disk.device)': write-blocking now"))
      ask(.blockJobChange(job: mirror.jobID), .source, &effects)
    }
  }

  private mutating func makeWriteBlocking(_ effects: inout [EngineEffect]) {
    modeChangeAsked = true
    for mirror in mirrors.mirrors where !mirror.isWriteBlocking {
      ask(.blockJobChange(job: mirror.jobID), .source, &effects)
    }
  }

  /// Looks at the jobs again, at most each 50 ms.
  private mutating func lookAgain(_ effects: inout [EngineEffect]) {
    if mirrorPollIsDue() { poll(.queryBlockJobs, .source, &effects) }
  }

  /// How often the jobs are looked at while memory travels. Where a stalled connection could not be
  /// broken once the guest stands, more often.
  var transferPollInterval: Span {
    mirrors.isEmpty || source.outOfBandIsReady ? Self.reportInterval : .milliseconds(250)
  }

  /// A connection over which the guest's writes do not get any more, while the guest still runs.
  func stallFailure() -> Failure? {
    guard let stall = mirrors.stall(at: now), stall >= storage.yankLimit else { return nil }
    return Failure(
      .storage, side: .source,
      text: "a write of the guest has been on its way to the target's disk for "
        + "\(stall.milliseconds) ms: the NBD connection has stalled")
  }

  /// The time in which the mirrors were to get in sync is over.
  private mutating func syncDeadlinePassed(_ effects: inout [EngineEffect]) -> Failure? {
    let text =
      "the mirrors did not get in sync within \(storage.syncDeadline?.milliseconds ?? 0) ms"
    switch storage.policy {
    case .fail: return Failure(.storage, side: .source, text: text)
    case .wait: effects.append(.warn("\(text); waiting on"))
    case .throttle:
      effects.append(.warn("\(text); each write of the guest waits for the target's disk now"))
      if !modeChangeAsked { makeWriteBlocking(&effects) }
    }
    return nil
  }

  private mutating func mirroringFailure(_ effects: inout [EngineEffect]) -> Failure? {
    if let undoReason { return undoReason }
    if let text = mirrors.failure { return Failure(.storage, side: .source, text: text) }
    if source.isProvenDead {
      return Failure(.sourceGone, side: .source, text: "source's QEMU ended")
    }
    if target.isProvenDead {
      return Failure(.targetGone, side: .target, text: "target's QEMU ended")
    }
    if let failure = monitorFailure() { return failure }
    if guestIsOff {
      return Failure(
        .guestOff, side: .source, text: "the guest powered off, or was shut down, on its way")
    }
    if alarms.takeDue(.step, at: now) {
      return Failure(.storage, text: "setting up the mirrors took longer than a minute")
    }
    if alarms.takeDue(.transferLimit, at: now), !mirrors.areAllReady {
      return syncDeadlinePassed(&effects)
    }
    return stallFailure()
  }

  /// What storage adds to the replies of a step.
  mutating func storageReplied(
    _ side: Side, _ command: Command, _ reply: CommandReply, _ effects: inout [EngineEffect]
  ) -> Bool {
    switch (command, reply) {
    case (.blockdevMirror(let job, _, _, _, _), .refused(let refusal)):
      mirrorRefused(job, refusal, &effects)
      return true
    case (.blockJobChange(let job), .answered):
      mirrors.change(job) { $0.isWriteBlocking = true }
      return true
    case (.blockJobChange, _), (.blockJobSetSpeed, _), (.blockJobCancel, _), (.jobDismiss, _),
      (.yank, _):
      // What became of it is seen in the jobs themselves.
      return true
    case (.blockdevDel(let node), _):
      if let position = mirrors.mirrors.firstIndex(where: { $0.node == node }) {
        mirrors.mirrors[position].nodeIsAdded = false
      }
      return true
    case (.nbdServerStop, _):
      nbdStopReplied(reply)
      return true
    case (.blockdevAdd, .refused), (.driveMirror, .refused), (.nbdServerStart, .refused),
      (.blockExportAdd, .refused):
      guard phase == .mirroring, case .refused(let refusal) = reply, undoReason == nil else {
        return false
      }
      undoReason = refused(side, command.qmpName, refusal)
      return true
    case (.queryBlockNodes, .lost), (.queryBlockDevices, .lost), (.blockdevAdd, .lost),
      (.blockdevMirror, .lost), (.driveMirror, .lost),
      (.nbdServerStart, .lost), (.blockExportAdd, .lost):
      guard phase == .mirroring, undoReason == nil else { return true }
      undoReason = Failure(
        .monitorLost, side: side, command: command.qmpName,
        text: "\(side)'s monitor was lost while the mirrors were set up")
      return true
    default:
      return false
    }
  }

  // MARK: - The target's NBD server (I3)

  private mutating func nbdStopReplied(_ reply: CommandReply) {
    switch reply {
    case .answered:
      nbdStop = .stopped
      mirrors.serverStopped()
      ledger.serverStopped(at: now)
    case .refused(let refusal):
      // A server that does not run has no writers.
      nbdStop =
        refusal.text.contains("not running")
        ? .stopped
        : .failed(refusal)
    case .lost: nbdStop = .lost
    }
  }

  /// Sends the stop unless it is sent or done; a lost one is sent again.
  mutating func stopNBD(_ effects: inout [EngineEffect]) {
    guard !mirrors.isEmpty, target.isConnected else { return }
    switch nbdStop {
    case .notSent, .lost:
      nbdStop = .sent
      ask(.nbdServerStop, .target, &effects)
    case .sent, .stopped, .failed:
      break
    }
  }

  /// Whether no outside writer can reach the target's disks when `cont` is carried out: the stop is
  /// confirmed, or it goes ahead of `cont` on the same connection, where their order is guaranteed.
  func outsideWritersEnd(beforeNextCommand stopIsAhead: Bool) -> Bool {
    if mirrors.isEmpty || nbdStop == .stopped { return true }
    return stopIsAhead && usesFastOrder && preflight.target.foreignExports.isEmpty
  }

  enum NBDStop: Hashable, Sendable {
    case notSent, sent, stopped, lost
    case failed(Refusal)
  }

  // MARK: - Ending mirrors

  /// Ends every live mirror and removes what belongs to it; answers whether nothing is left.
  ///
  /// A mirror that is ready ends in sync, without force. Forced, a write-blocking mirror under write load
  /// corrupts QEMU's heap (measured on 7.2 and 10.0; before it is ready in half of all tries), so
  /// one that is not ready, or that does not end, has its connection broken and fails by itself. Force
  /// is for copies in the background, and for a guest that stands.
  /// The caller polls: each call sends only what is not on its way.
  mutating func endMirrors(takenOverToo: Bool, _ effects: inout [EngineEffect]) -> Bool {
    guard !mirrors.isEmpty, source.isConnected else { return true }
    _ = alarms.takeDue(.yank, at: now)
    if mirrorsAskedToEnd == nil { mirrorsAskedToEnd = now }
    var isClean = true
    for mirror in mirrors.mirrors where mirror.isOurs || takenOverToo {
      if mirror.isConcluded {
        isClean = false
        if !awaited.contains(.jobDismiss(job: mirror.jobID), .source) {
          ask(.jobDismiss(job: mirror.jobID), .source, &effects)
        }
      } else if mirror.report != nil || mirror.isLive {
        isClean = false
        tellToEnd(mirror, &effects)
      } else if mirror.nodeIsAdded {
        isClean = false
        if let node = mirror.node, !awaited.contains(.blockdevDel(node: node), .source) {
          // To take leave of a server that does not answer would hold up QEMU's main loop.
          breakConnection(mirror, &effects)
          ask(.blockdevDel(node: node), .source, &effects)
        }
      }
    }
    if !isClean { lookAgain(&effects) }
    return isClean
  }

  /// How long a mirror may take to end in sync before its connection is broken.
  private static let softEndLimit = Span.seconds(3)

  private mutating func tellToEnd(_ mirror: MirrorSet.Mirror, _ effects: inout [EngineEffect]) {
    let standsForGood = source.status == .completed && !sourceRanAgain
    let told = endingSince.first { $0.index == mirror.index }
    let isOverdue = told.map { now >= $0.since + Self.softEndLimit } ?? false
    let stall = mirrors.stall(at: now) ?? .zero
    let isStalled = mirrors.stall(at: now) != nil
    let way: MirrorEnding
    if standsForGood || source.status == .preSwitchover {
      way = .standing
    } else if mirror.state == .ready, !isOverdue, !isStalled {
      // Told to end over a stalled connection, it would hold up QEMU's main loop: look first.
      guard told != nil || hasBeenLookedAt else { return }
      way = .inSync
    } else if mirror.node != nil, mirror.isWriteBlocking || isOverdue {
      guard told != nil || !isStalled || stall >= storage.yankLimit else { return }
      way = .brokenConnection
    } else {
      way = .force
    }
    if let told {
      if told.way == .brokenConnection { wake(mirror, brokenSince: told.since, &effects) }
      if told.way == way || told.way == .brokenConnection { return }
      if !isOverdue, way != .standing { return }
    }
    endingSince.removeAll { $0.index == mirror.index }
    endingSince.append((mirror.index, now, way))
    // In band, QEMU may not answer while it waits for a stalled connection.
    if way != .brokenConnection { alarms.set(.yank, now + Self.softEndLimit) }
    switch way {
    case .inSync: ask(.blockJobCancel(job: mirror.jobID, force: false), .source, &effects)
    case .force: ask(.blockJobCancel(job: mirror.jobID, force: true), .source, &effects)
    case .brokenConnection: breakConnection(mirror, &effects)
    case .standing:
      breakConnection(mirror, &effects)
      ask(.blockJobCancel(job: mirror.jobID, force: true), .source, &effects)
    }
  }

  /// A mirror sleeps to keep to its limit, for seconds where that is low, and notices when it wakes that
  /// its connection is broken. Woken at once, while the guest's writes on their way fail, QEMU 7.2 died
  /// in one of twenty tries.
  private mutating func wake(
    _ mirror: MirrorSet.Mirror, brokenSince instant: MonotonicInstant,
    _ effects: inout [EngineEffect]
  ) {
    guard mirror.isLimited, now >= instant + .milliseconds(500) else { return }
    mirrors.change(mirror.jobID) { $0.isLimited = false }
    ask(.blockJobSetSpeed(job: mirror.jobID, bytesPerSecond: 0), .source, &effects)
  }

  /// The jobs have been looked at since they were to end.
  private var hasBeenLookedAt: Bool {
    guard let asked = mirrorsAskedToEnd, let look = mirrors.lastLook else { return false }
    return look > asked
  }

  private mutating func breakConnection(
    _ mirror: MirrorSet.Mirror, _ effects: inout [EngineEffect]
  ) {
    guard let node = mirror.node else { return }
    if source.outOfBandIsReady {
      effects.append(.sendOutOfBand(.yank(nodes: [node]), to: .source))
    } else {
      ask(.yank(nodes: [node]), .source, &effects)
    }
  }

  enum MirrorEnding: Hashable, Sendable {
    case inSync, force, brokenConnection
    /// The guest stands, so that force does no harm. The connection is broken ahead of it: where it had
    /// stalled, removing its node, or `quit`, would hold QEMU up for ever.
    case standing
  }

  /// At most one look at the jobs each 50 ms while they end.
  private mutating func mirrorPollIsDue() -> Bool {
    if let last = lastMirrorPoll, now < last + .milliseconds(50) {
      alarms.setEarlier(.poll, last + .milliseconds(50), at: now)
      return false
    }
    lastMirrorPoll = now
    return true
  }

  /// The nodes whose connections can be broken.
  var yankableNodes: [String] { mirrors.mirrors.filter(\.isLive).compactMap(\.node) }

  /// Breaks stalled NBD connections where the guest stands for too long (out of band).
  mutating func yankIfStalled(_ effects: inout [EngineEffect]) {
    guard !mirrors.isEmpty, source.status != .preSwitchover, source.status != .device else {
      return
    }
    if !alarms.isSet(.yank), !yankSent { alarms.set(.yank, now + storage.yankLimit) }
    guard alarms.takeDue(.yank, at: now), !yankSent else { return }
    yankSent = true
    let nodes = yankableNodes
    guard source.outOfBandIsReady, !nodes.isEmpty else {
      effects.append(
        .warn(
          "the guest stands and the source does not answer: an NBD connection may be stalled, and "
            + "there is no out-of-band monitor to break it"))
      return
    }
    effects.append(
      .warn("the guest stands: breaking the NBD connections of \(nodes.joined(separator: ", "))"))
    effects.append(.sendOutOfBand(.yank(nodes: nodes), to: .source))
  }

  /// What could not be ended or removed, for a person.
  var leftovers: String {
    let names = mirrors.mirrors.filter { $0.isLive || $0.isConcluded || $0.nodeIsAdded }
      .map { "'\($0.jobID)'" + ($0.node.map { " (node '\($0)')" } ?? "") }
    return "source still has the mirrors \(names.joined(separator: ", ")): end them with "
      + "block-job-cancel force=true, then blockdev-del"
  }

  // MARK: - pre-switchover

  private enum PreSwitchoverStep {
    static let asking = 0
    static let checking = 1
    static let ending = 2
    static let continued = 3
  }

  /// The guest stands, QEMU has drained, and it waits for `migrate-continue`.
  mutating func decidePreSwitchover(_ effects: inout [EngineEffect]) -> MigrationPhase {
    alarms.clear(.yank)
    if preSwitchoverStep < PreSwitchoverStep.continued, let failure = preSwitchoverFailure() {
      undoReason = failure
      return .undoing
    }
    if preSwitchoverStep < PreSwitchoverStep.continued, cancelRequested { return .undoing }
    guard source.isConnected else { return .switchingOver }
    switch preSwitchoverStep {
    case PreSwitchoverStep.asking:
      alarms.set(.drain, now + storage.drainLimit)
      // Asked again on purpose: an answer from before `pre-switchover` is not final.
      guard !awaited.contains(.queryBlockJobs, .source) else { break }
      preSwitchoverStep = PreSwitchoverStep.checking
      // Mirrors that are ended in any case tell how they ended.
      guard mayUseFastOrder else { return decidePreSwitchover(&effects) }
      ask(.queryBlockJobs, .source, &effects)
    case PreSwitchoverStep.checking:
      guard !awaited.contains(.queryBlockJobs, .source), !guestRun.stopUnexplained,
        target.isConnected
      else { break }
      judgeMirrors(&effects)
    case PreSwitchoverStep.ending:
      if mirrors.haveAllEndedInSync {
        continueMigration(&effects)
        stopNBD(&effects)
      } else {
        lookAgain(&effects)
      }
    default:
      if continuation == .toBeRepeated {
        continueMigration(&effects)
      } else {
        reconcile([.source], &effects)
      }
    }
    return .switchingOver
  }

  /// It is asked for, and the source's release is on the list.
  private var mayUseFastOrder: Bool {
    guard storage.allowsFastOrder, let release = source.release else { return false }
    return Self.releasesWithFastOrder.contains { $0.contains(release) }
  }

  private mutating func judgeMirrors(_ effects: inout [EngineEffect]) {
    let reportsActiveSync = source.release.map { $0 >= QEMURelease(8, 2) } ?? true
    if mayUseFastOrder, mirrors.areInSync(reportsActiveSync: reportsActiveSync) {
      usesFastOrder = true
      continueMigration(&effects)
      return
    }
    preSwitchoverStep = PreSwitchoverStep.ending
    mirrors.areToldToEnd = true
    for mirror in mirrors.mirrors where mirror.isLive {
      endingSince.append((mirror.index, now, .inSync))
      ask(.blockJobCancel(job: mirror.jobID, force: false), .source, &effects)
    }
  }

  private mutating func continueMigration(_ effects: inout [EngineEffect]) {
    ledger.migrationContinued(
      endsMirrorsFirst: preSwitchoverStep == PreSwitchoverStep.ending, at: now)
    preSwitchoverStep = PreSwitchoverStep.continued
    continuation = .pending
    alarms.clear(.drain)
    ask(.migrateContinue, .source, &effects)
  }

  /// `migrate-continue` is on its way: nothing cancels any more (I4).
  var isContinued: Bool { preSwitchoverStep >= PreSwitchoverStep.continued }

  private mutating func preSwitchoverFailure() -> Failure? {
    if target.isProvenDead || target.isOutOfReach {
      return Failure(.targetGone, side: .target, text: "target's QEMU ended in pre-switchover")
    }
    if let text = mirrors.failure { return Failure(.storage, side: .source, text: text) }
    if guestIsOff {
      return Failure(
        .guestOff, side: .source, text: "the guest powered off, or was shut down, on its way")
    }
    if alarms.takeDue(.drain, at: now) {
      return Failure(
        .storage, side: .source,
        text:
          "the mirrors did not end within \(storage.drainLimit.milliseconds) ms in pre-switchover")
    }
    return nil
  }
}
