import MigrationEngine
import QMP

// The sending side.

extension SimulatedQEMU {
  func isOn(_ capability: String) -> Bool {
    capabilities.contains { $0.name == capability && $0.isOn }
  }

  func setStatus(_ status: OutgoingMigration.Status) {
    outgoing.status = status
    emitMigration(status.rawValue)
  }

  func emitMigration(_ status: String) {
    guard isOn("events") else { return }
    emit("MIGRATION", ["status": .string(status)])
  }

  private func startPass() {
    outgoing.pass += 1
    if isOn("events") { emit("MIGRATION_PASS", ["pass": JSONValue(outgoing.pass)]) }
  }

  // MARK: - Commands

  func migrate(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let address = try arguments.optionalString("uri")
    for name in ["blk", "inc", "detach", "resume"] { _ = try arguments.optionalBool(name) }
    try arguments.finish()
    guard let address else {
      throw configuration.release == .qemu72
        ? CommandArguments.missing("uri") : .generic("need either 'uri' or 'channels' argument")
    }
    if configuration.release == .qemu100 { try checkAddress(address) }
    guard !outgoing.isUnderway else {
      throw .generic("There's a migration process in progress")
    }
    if runState == .inmigrate { throw .generic("Guest is waiting for an incoming migration") }
    if let blocker = configuration.migrationBlockers.first { throw .generic(blocker) }
    if configuration.release == .qemu100, runState == .postmigrate {
      throw .generic("Can't migrate the vm that was paused due to previous migration")
    }
    if configuration.release == .qemu72, !address.isMigrationAddress {
      outgoing.status = .failed
      throw .generic("Parameter 'uri' expects a valid migration protocol")
    }
    let generation = outgoing.generation + 1
    outgoing = OutgoingMigration()
    outgoing.generation = generation
    outgoing.stage = .connecting
    outgoing.startedAt = now
    outgoing.hasReturnPath = isOn("return-path")
    setStatus(.setup)
    effects.append(.connectMigration(address: address))
  }

  private func checkAddress(_ address: String) throws(QMPCommandError) {
    guard !address.isMigrationAddress else { return }
    throw .generic("unknown migration protocol: \(address)")
  }

  func migrateContinue(_ arguments: inout CommandArguments) throws(QMPCommandError) {
    let state = try arguments.string("state")
    try arguments.finish()
    guard QEMUVocabulary.migrationStatuses.contains(state) else {
      throw .generic("Parameter 'state' does not accept value '\(state)'")
    }
    guard state == outgoing.status.rawValue else {
      throw .generic("Migration not in expected state: \(outgoing.status.rawValue)")
    }
    guard outgoing.stage == .preSwitchover else { return }
    step(MigrationStep.continued, after: .microseconds(50))
  }

  func cancelMigration() {
    guard outgoing.isUnderway, outgoing.status != .cancelling else { return }
    // The migration thread is woken first, and may go on for an instant.
    if outgoing.stage == .preSwitchover, random.chance(1, in: 4) { setStatus(.device) }
    setStatus(.cancelling)
    effects.append(.closeMigration)
    outgoing.peerIsGone = true
    switch outgoing.stage {
    case .connecting: step(MigrationStep.cancelConnecting, after: .microseconds(50))
    case .streaming: step(MigrationStep.noticeCancel, after: .milliseconds(1))
    case .preSwitchover: step(MigrationStep.noticeCancel, after: .microseconds(60))
    case .awaitingAcknowledgement:
      outgoing.result = .cancelled
      conclude()
    case .idle, .draining, .settling, .flushing, .flushingState, .concluding, .cleaningUp: break
    }
  }

  // MARK: - The migration thread

  private func step(_ step: Int, after span: Span) {
    wake(.migration(generation: outgoing.generation, step: step), after: span)
  }

  func migrationStep(_ step: Int) {
    switch (step, outgoing.stage) {
    case (MigrationStep.chunk, .streaming): sendChunk()
    case (MigrationStep.passEnd, .streaming) where outgoing.status == .active: passEnded()
    case (MigrationStep.drained, .draining): drained()
    case (MigrationStep.continued, .preSwitchover) where outgoing.status == .preSwitchover:
      setStatus(.device)
      flush()
    case (MigrationStep.conclude, .concluding): setFinalStatus()
    case (MigrationStep.cleanUp, .cleaningUp): cleanUp()
    case (MigrationStep.noticeCancel, .streaming), (MigrationStep.noticeCancel, .preSwitchover):
      outgoing.result = .cancelled
      outgoing.stage = .cleaningUp
      cleanUp()
    case (MigrationStep.cancelConnecting, .connecting):
      outgoing.stage = .idle
      setStatus(.cancelled)
    default: break
    }
  }

  func migrationConnected() {
    guard outgoing.stage == .connecting, outgoing.status == .setup else {
      effects.append(.closeMigration)
      return
    }
    outgoing.stage = .streaming
    outgoing.connectedAt = now
    outgoing.remaining = configuration.timing.usedMemoryBytes
    startPass()
    outgoing.passStartedAt = now
    setStatus(.active)
    outgoing.lastChunk = 0
    outgoing.chunkSentAt = now
    effects.append(
      .sendMigration(
        .header(
          memoryBytes: configuration.memoryBytes, wantsReturnPath: outgoing.hasReturnPath),
        bytes: 4096))
  }

  func migrationRefused(_ text: String) {
    guard outgoing.stage == .connecting, outgoing.status == .setup else { return }
    outgoing.stage = .idle
    outgoing.error = text
    setStatus(.failed)
  }

  /// The rate that `max-bandwidth` allows, bytes a second.
  private var bandwidth: UInt64 {
    let highest = configuration.timing.highestBandwidth
    guard let limit = parameters["max-bandwidth"]?.uint64, limit > 0 else { return highest }
    return max(min(limit, highest), 1)
  }

  private static let window = Span.milliseconds(100)
  /// What QEMU sends before it looks at its bandwidth again: a page, or a buffer of 32.
  private var leastChunk: UInt64 { configuration.release == .qemu72 ? 4_096 : 131_072 }

  /// QEMU sends in windows of 100 ms, so that it keeps to its bandwidth.
  private func sendChunk() {
    if outgoing.peerIsGone {
      guard outgoing.status != .cancelling else { return }
      fail("Unable to write to socket: Broken pipe")
      return
    }
    // However low the limit, something is sent in each window.
    let chunk = min(max(outgoing.remaining, 1), max(bandwidth / 10, leastChunk))
    outgoing.lastChunk = chunk
    outgoing.chunkWindow =
      bandwidth / 10 >= leastChunk ? Self.time(of: chunk, at: bandwidth) : Self.window
    outgoing.isWriting = true
    outgoing.chunkSentAt = now
    effects.append(.sendMigration(.memory, bytes: chunk))
  }

  func migrationFlushed() {
    switch outgoing.stage {
    case .streaming:
      outgoing.isWriting = false
      guard outgoing.status == .active else { return }
      let chunk = outgoing.lastChunk
      outgoing.transferred &+= chunk
      outgoing.remaining -= min(chunk, outgoing.remaining)
      let next = max(now, outgoing.chunkSentAt + outgoing.chunkWindow)
      outgoing.rate =
        Double(chunk) * 1e9 / Double(max((next - outgoing.chunkSentAt).nanoseconds, 1))
      let isPassOver = outgoing.remaining == 0 && chunk > 0
      step(isPassOver ? MigrationStep.passEnd : MigrationStep.chunk, after: next - now)
    case .flushing: sendLastState()
    case .flushingState: stateSent()
    default: break
    }
  }

  /// How long so many bytes take at a rate.
  static func time(of bytes: UInt64, at bytesPerSecond: UInt64) -> Span {
    let (nanoseconds, overflow) = bytes.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return .seconds(Int64(clamping: bytes / max(bytesPerSecond, 1))) }
    return Span(nanoseconds: Int64(clamping: nanoseconds / max(bytesPerSecond, 1)))
  }

  private func passEnded() {
    if outgoing.peerIsGone { return sendChunk() }
    let seconds = Double(max((now - outgoing.passStartedAt).microseconds, 0)) / 1_000_000
    let dirtied =
      isRunning && !isCalm ? seconds * Double(configuration.timing.dirtyBytesPerSecond) : 0
    outgoing.remaining = min(UInt64(dirtied), configuration.timing.usedMemoryBytes)
    let limit = parameters["downtime-limit"]?.uint64 ?? 300
    let threshold = min(Double(bandwidth), outgoing.rate) * Double(limit) / 1_000
    outgoing.passStartedAt = now
    if Double(outgoing.remaining) <= threshold {
      beginSwitchover()
    } else {
      startPass()
      sendChunk()
    }
  }

  private func beginSwitchover() {
    isHeldByMigration = true
    outgoing.stage = .draining
    outgoing.oldRunState = runState
    outgoing.stoppedAt = now
    // A guest that stands already is drained all the same.
    if runState == .running { stop(.finishMigrate) } else { runState = .finishMigrate }
    drainDisks()
  }

  /// A node could not be flushed: the migration fails, with the guest still on its own disk.
  func drainFailed() {
    guard outgoing.stage == .draining else { return }
    fail(
      configuration.release == .qemu72 ? nil : "Error in migration completion: Input/output error")
  }

  /// Whether the switchover waits until nothing of the block layer is in flight.
  var isWaitingForBlocks: Bool {
    outgoing.stage == .settling || (outgoing.stage == .idle && isHeldByBlocks)
  }

  /// Nothing is in flight any more.
  func blocksSettled() {
    if outgoing.stage == .settling {
      sendState()
    } else {
      isHeldByBlocks = false
    }
  }

  /// After QEMU's own drain and flush.
  func disksDrained(after span: Span) { step(MigrationStep.drained, after: span) }

  private func drained() {
    if isOn("pause-before-switchover") {
      outgoing.stage = .preSwitchover
      isHeldByMigration = false
      setStatus(.preSwitchover)
      return
    }
    if configuration.release == .qemu100 { setStatus(.device) }
    flush()
  }

  private func flush() {
    isHeldByMigration = true
    startPass()
    if configuration.release == .qemu100, !outgoing.peerIsGone, !blocks.requests.isEmpty {
      // It inactivates its disks first, and that waits for what is in flight.
      outgoing.stage = .settling
      return
    }
    sendState()
  }

  private func sendState() {
    if outgoing.peerIsGone {
      fail(configuration.release == .qemu72 ? nil : "Unable to write to socket: Broken pipe")
      return
    }
    if configuration.release == .qemu100 { inactivateDisks() }
    outgoing.stage = .flushing
    outgoing.lastChunk = outgoing.remaining
    effects.append(
      .sendMigration(.devices(configuration.devices), bytes: max(outgoing.remaining, 1)))
  }

  private func sendLastState() {
    outgoing.stage = .flushingState
    let state = TravellingState(runState: outgoing.oldRunState ?? .running, guest: guest)
    outgoing.lastChunk += configuration.timing.stateBytes
    effects.append(.sendMigration(.state(state), bytes: configuration.timing.stateBytes))
  }

  private func stateSent() {
    inactivateDisks()
    outgoing.transferred &+= outgoing.lastChunk
    outgoing.remaining = 0
    isHeldByMigration = false
    outgoing.result = .completed
    guard outgoing.hasReturnPath else { return conclude() }
    outgoing.stage = .awaitingAcknowledgement
    if let acknowledgement = outgoing.acknowledgement { acknowledged(acknowledgement) }
  }

  func acknowledged(_ isLoaded: Bool) {
    outgoing.acknowledgement = isLoaded
    guard outgoing.stage == .awaitingAcknowledgement else { return }
    outgoing.result = isLoaded ? .completed : .failed
    if !isLoaded, configuration.release == .qemu100 {
      outgoing.error = "Sibling indicated error 1"
    }
    conclude()
  }

  /// The peer's end of the connection is gone.
  func outgoingEnded() {
    outgoing.peerIsGone = true
    switch outgoing.stage {
    case .flushing where outgoing.status != .cancelling,
      .flushingState where outgoing.status != .cancelling:
      fail("Unable to write to socket: Broken pipe")
    case .awaitingAcknowledgement where outgoing.acknowledgement == nil:
      outgoing.result = outgoing.status == .cancelling ? .cancelled : .failed
      noteLostReturnPath()
      conclude()
    case .streaming, .preSwitchover:
      if outgoing.hasReturnPath { noteLostReturnPath() }
      // A write that is under way fails at once, the next one otherwise.
      if outgoing.stage == .streaming, outgoing.isWriting, outgoing.status == .active {
        fail("Unable to write to socket: Broken pipe")
      }
    default: break
    }
  }

  private func noteLostReturnPath() {
    if configuration.release == .qemu100 { outgoing.error = "Channel error: Input/output error" }
  }

  private func fail(_ text: String?) {
    isHeldByMigration = false
    if outgoing.error == nil { outgoing.error = text }
    outgoing.result = .failed
    setFinalStatus()
  }

  /// Between the last byte and the status the main loop may run: a cancel can come in between.
  private func conclude() {
    outgoing.stage = .concluding
    step(MigrationStep.conclude, after: .microseconds(30))
  }

  private func setFinalStatus() {
    outgoing.endedAt = now
    if outgoing.status == .cancelling { outgoing.result = .cancelled }
    if outgoing.result != .cancelled { setStatus(outgoing.result) }
    outgoing.stage = .cleaningUp
    step(MigrationStep.cleanUp, after: configuration.timing.afterStatus)
  }

  /// What follows from the final status.
  private func cleanUp() {
    isHeldByMigration = false
    outgoing.stage = .idle
    effects.append(.closeMigration)
    if outgoing.result == .completed {
      // 7.2 waits for what is in flight only now, with its main loop.
      isHeldByBlocks = !blocks.requests.isEmpty
      if runState == .finishMigrate { runState = .postmigrate }
      return
    }
    if runState == .finishMigrate {
      // It resumes even where it cannot get its disks back.
      try? activateDisks()
      if outgoing.oldRunState == .running {
        resume()
      } else {
        runState = configuration.release == .qemu72 ? .postmigrate : outgoing.oldRunState ?? .paused
      }
    }
    if outgoing.result == .cancelled { setStatus(.cancelled) }
  }
}

extension String {
  fileprivate var isMigrationAddress: Bool {
    for scheme in ["unix:", "tcp:", "fd:", "exec:", "vsock:", "rdma:", "file:"]
    where hasPrefix(scheme) { return true }
    return false
  }
}

extension QEMUVocabulary {
  static let migrationStatuses = [
    "none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused",
    "postcopy-recover", "completed", "failed", "colo", "pre-switchover", "device", "wait-unplug",
  ]
}
