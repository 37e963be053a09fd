import MigrationEngine
import MigrationSession
import QMP

// What goes wrong, and when.

extension World {
  func plan(_ index: Int) {
    if case .time(let span) = scenario.faults[index].trigger {
      schedule(.fault(index), after: span)
    }
  }

  func strikeAtStep(_ number: Int) {
    for (index, fault) in scenario.faults.enumerated() where fault.trigger == .step(number) {
      strike(index)
    }
  }

  func phaseStriker(_ phase: MigrationPhase) {
    for (index, fault) in scenario.faults.enumerated() {
      if case .phase(phase, let offset) = fault.trigger { schedule(.fault(index), after: offset) }
    }
  }

  /// Called after everything that the source does.
  func statusStriker() {
    let status = source.outgoing.status
    guard status != observer.lastSourceStatus else { return }
    observer.lastSourceStatus = status
    for (index, fault) in scenario.faults.enumerated() {
      if case .status(status.rawValue, let offset) = fault.trigger {
        schedule(.fault(index), after: offset)
      }
    }
  }

  func strike(_ index: Int) {
    // A phase may be entered again and again: each fault strikes once.
    guard !hasHealed, !hasStruck[index] else { return }
    let fault = scenario.faults[index]
    guard apply(fault, index) else { return }
    hasStruck[index] = true
    struck.append(fault.kind)
    log.note("fault", at: now, number: UInt64(index)) { "\(fault.kind)" }
  }

  /// Answers whether there was something to strike.
  private func apply(_ fault: Fault, _ index: Int) -> Bool {
    switch fault.kind {
    case .sourceMonitorCut: return cutMonitor(.source, losing: fault.bytes % 2 == 0)
    case .targetMonitorCut: return cutMonitor(.target, losing: fault.bytes % 2 == 0)
    case .sourceMonitorCutWithinBytes: return cutMonitorLater(.source, fault.bytes)
    case .targetMonitorCutWithinBytes: return cutMonitorLater(.target, fault.bytes)
    case .sourceMonitorStalls: return stallMonitor(.source, fault.length)
    case .targetMonitorStalls: return stallMonitor(.target, fault.length)
    case .sourceMonitorHalfOpen: return halfOpenMonitor(.source)
    case .targetMonitorHalfOpen: return halfOpenMonitor(.target)
    case .migrationCut:
      guard link.state == .up else { return false }
      cutMigration()
    case .migrationStalls:
      guard link.state == .up, !link.isStalled else { return false }
      link.isStalled = true
      schedule(.faultEnds(index), after: fault.length)
    case .migrationVanishes:
      guard link.state == .up else { return false }
      link.vanishes = true
    case .storageCut:
      guard !storageLink.connections.isEmpty else { return false }
      cutStorage()
    case .storageStalls:
      guard !storageLink.connections.isEmpty, !storageLink.isStalled else { return false }
      storageLink.isStalled = true
      schedule(.faultEnds(index), after: fault.length)
    case .storageVanishes:
      guard !storageLink.connections.isEmpty else { return false }
      storageLink.vanishes = true
    case .sourceKilled: return kill(.source)
    case .targetKilled: return kill(.target)
    case .targetReplaced:
      guard scenario.isLocal, kill(.target) else { return false }
      targetIsReplaced = true
    case .targetEnded: return order(.target, QEMUCommandName.quit)
    case .guestPowersOff: return actAsGuest(.powerOff)
    case .guestReboots: return actAsGuest(.reboot)
    case .guestPanics: return actAsGuest(.panic)
    case .guestInputOutputError: return actAsGuest(.inputOutputError)
    case .ownerStops: return order(.source, QEMUCommandName.stop)
    case .ownerResumes:
      // An owner resumes a guest that it paused, not one that stands for the migration.
      guard source.runState == .paused || source.runState == .ioError else { return false }
      return order(.source, QEMUCommandName.cont)
    case .ownerCancels: return order(.source, QEMUCommandName.migrateCancel)
    case .strangerAtSource: return callStranger(.source, fault.length)
    case .strangerAtTarget: return callStranger(.target, fault.length)
    case .strangerResumesSource:
      guard source.runState == .postmigrate else { return false }
      return order(.source, QEMUCommandName.cont)
    case .hostCancels: give(.requested(.cancel))
    case .hostFencesSource: return fence(.source)
    case .hostFencesTarget: return fence(.target)
    case .hostHandsBack: return handBack()
    case .engineCrashes: return crash()
    case .unknownEvent, .unknownStatus, .unknownMember:
      guard sessionStreams[0] != nil else { return false }
      observer.strangeness.append(fault.kind)
    case .spuriousWake: give(.timePassed)
    }
    return true
  }

  func faultEnds(_ index: Int) {
    switch scenario.faults[index].kind {
    case .migrationStalls: endStallOfMigration()
    case .storageStalls: endStallOfStorage()
    default: break
    }
  }

  /// Everything that is broken is repaired; nothing new breaks.
  func heal() {
    hasHealed = true
    log.note("heal", at: now) { "" }
    endStallOfMigration()
    endStallOfStorage()
    if storageLink.vanishes {
      storageLink.vanishes = false
      cutStorage()
    }
    if link.vanishes {
      link.vanishes = false
      cutMigration()
    }
    for index in streams.indices {
      streams[index].bytesBeforeCut = nil
      if streams[index].stalledUntil > now { streams[index].stalledUntil = now }
      if streams[index].isHalfOpen, !streams[index].isCut {
        // A reset, or a keepalive that is not answered.
        streams[index].isHalfOpen = false
        cut(index, losingWhatIsOnItsWay: false)
      }
      if streams[index].client == .stranger { closeByClient(index) }
    }
    source.calmGuest()
  }

  // MARK: - Monitors

  private func sessionStream(_ side: Side) -> Int? {
    sessionStreams[(side == .source ? StreamID.sourceMonitor : .targetMonitor).rawValue]
  }

  private func cutMonitor(_ side: Side, losing isLossy: Bool) -> Bool {
    guard let index = sessionStream(side), !streams[index].isCut else { return false }
    cut(index, losingWhatIsOnItsWay: isLossy)
    return true
  }

  private func cutMonitorLater(_ side: Side, _ bytes: Int) -> Bool {
    guard let index = sessionStream(side), streams[index].bytesBeforeCut == nil else {
      return false
    }
    streams[index].bytesBeforeCut = (bytes, bytes)
    return true
  }

  private func stallMonitor(_ side: Side, _ length: Span) -> Bool {
    guard let index = sessionStream(side) else { return false }
    streams[index].stalledUntil = max(streams[index].stalledUntil, now + length)
    return true
  }

  private func halfOpenMonitor(_ side: Side) -> Bool {
    guard let index = sessionStream(side), !streams[index].isCut else { return false }
    streams[index].isHalfOpen = true
    return true
  }

  private func callStranger(_ side: Side, _ length: Span) -> Bool {
    guard self[side].isAlive, let index = connect(.stranger, to: side) else { return false }
    schedule(.hostProgram(.strangerLeaves(stream: index)), after: length)
    return true
  }

  // MARK: - Processes

  private func kill(_ side: Side) -> Bool {
    guard self[side].isAlive else { return false }
    give(side, .killed)
    return true
  }

  private func order(_ side: Side, _ command: String) -> Bool {
    guard self[side].isAlive else { return false }
    give(side, .ownerCommand(command, [:]))
    return true
  }

  private func actAsGuest(_ act: SimulatedGuest.Act) -> Bool {
    for side in Side.allCases where self[side].isRunning {
      give(side, .guest(act))
      return true
    }
    return false
  }

  /// The host program kills a QEMU, sees it gone, and only then says so.
  private func fence(_ side: Side) -> Bool {
    guard session != nil else { return false }
    host.fenced.append(side)
    if self[side].isAlive { give(side, .killed) }
    schedule(.hostProgram(.reapsFenced(side)), after: .milliseconds(200))
    return true
  }

  /// A host program takes ownership back only where the session says that it is being undone.
  private func handBack() -> Bool {
    guard session?.phase == .undoing, host.answer == .done else { return false }
    host.ownership = .source
    give(.requested(.handedBack))
    return true
  }

  // MARK: - Things of tomorrow

  /// Adds what a later QEMU might say to what a QEMU sends to the session.
  func strange(_ bytes: [UInt8], for client: Int) -> [UInt8] {
    guard !observer.strangeness.isEmpty, case .session = streams[client].client,
      !bytes.starts(with: "{\"QMP\"".utf8), let kind = observer.strangeness.popLast()
    else { return bytes }
    switch kind {
    case .unknownEvent:
      return Array(
        ("{\"event\": \"FROM_TOMORROW\", \"data\": {\"status\": \"completed\"}, \"timestamp\": "
          + "{\"seconds\": 1, \"microseconds\": 2}}\r\n").utf8) + bytes
    case .unknownStatus:
      return Array(
        ("{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failing\"}, \"timestamp\": "
          + "{\"seconds\": 1, \"microseconds\": 2}}\r\n").utf8) + bytes
    case .unknownMember where bytes.first == UInt8(ascii: "{"):
      return Array("{\"novelty\": [{\"a\": null}], ".utf8) + bytes.dropFirst()
    default: return bytes
    }
  }
}
