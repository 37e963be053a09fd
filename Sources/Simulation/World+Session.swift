import MigrationEngine
import MigrationSession

// The driver: carries out the session's effects in order, and tells it what became of them.

extension World {
  /// Whether there is a session: of the migration, or of its recovery.
  private var isDriven: Bool { session != nil || recovery != nil }
  private var nextDeadline: MonotonicInstant? { session?.nextDeadline ?? recovery?.nextDeadline }

  func give(_ input: SessionInput) {
    guard isDriven else { return }
    log.note("input", at: now) { "\(input)" }
    var effects: [SessionEffect] = []
    session?.handle(input, at: now, effects: &effects)
    recovery?.handle(input, at: now, effects: &effects)
    obey(effects)
  }

  private func receive(_ bytes: [UInt8], on stream: StreamID) {
    var effects: [SessionEffect] = []
    bytes.withUnsafeBytes {
      session?.received($0, on: stream, at: now, effects: &effects)
      recovery?.received($0, on: stream, at: now, effects: &effects)
    }
    obey(effects)
  }

  private func obey(_ effects: [SessionEffect]) {
    for effect in effects {
      if sessionEndedAt != nil {
        // The driver still closes, and stores how it ended.
        switch effect {
        case .close, .persist: break
        default:
          observer.violate(.noEffectAfterTheEnd, "\(effect)", at: now)
          return
        }
      }
      switch effect {
      case .open(let stream, _):
        openAttempts[stream.rawValue] += 1
        schedule(
          .sessionConnects(stream, attempt: openAttempts[stream.rawValue]),
          after: delay(of: stream.side))
      case .close(let stream): sessionCloses(stream)
      case .write(let stream, let bytes): sessionWrites(bytes, on: stream)
      case .countWaiting(let stream, _):
        schedule(.sessionCounts(stream), after: .microseconds(20))
      case .persist(let bytes): persist(bytes)
      case .report(let report): reported(report)
      }
    }
    scheduleDeadline()
  }

  /// A journal's record becomes durable, or the disk does not take it.
  private func persist(_ bytes: [UInt8]) {
    log.note("persist", at: now, bytes: bytes) { "\(bytes.count) bytes" }
    // A recovery's only record is that of its end.
    if session != nil, lastPhase != .ended, source.isAlive, source.runState == .finishMigrate {
      observer.violate(.bounds, "a record is made durable in the blackout", at: now)
    }
    let latency = Span.microseconds(random.number(in: 100...30_000))
    if scenario.journalFails, journal == nil {
      schedule(.recordStored(nil, text: "No space left on device"), after: latency)
    } else {
      schedule(.recordStored(bytes, text: ""), after: latency)
    }
  }

  func recordStored(_ bytes: [UInt8]?, _ text: String) {
    if let bytes { journal = bytes }
    guard sessionEndedAt == nil, session != nil else { return }
    give(bytes == nil ? .recordNotStored(text: text) : .recordStored)
  }

  private func delay(of side: Side) -> Span {
    side == .source ? scenario.sourceDelay : scenario.targetDelay
  }

  // MARK: - Time

  private func scheduleDeadline() {
    guard let next = nextDeadline else { return }
    var instant = max(next, now)
    if instant == now, servedDeadlineAt == now {
      // Its driver would spin. The world goes on, for what else it may show.
      observer.remark(.bounds, "the session's deadline stays in the past", at: now)
      instant = now + .milliseconds(200)
    }
    if let scheduledDeadline, scheduledDeadline >= now, scheduledDeadline <= instant { return }
    scheduledDeadline = instant
    schedule(.deadline, at: instant)
  }

  func deadlineCame() {
    guard scheduledDeadline == now else { return }
    scheduledDeadline = nil
    if let next = nextDeadline, next <= now {
      servedDeadlineAt = now
      give(.timePassed)
    } else {
      scheduleDeadline()
    }
  }

  // MARK: - Streams

  func sessionConnects(_ stream: StreamID, _ attempt: Int) {
    // It was closed meanwhile.
    guard isDriven, openAttempts[stream.rawValue] == attempt,
      sessionStreams[stream.rawValue] == nil
    else { return }
    let side = stream.side
    if side == .target, targetIsReplaced {
      meetSuccessor(stream)
      return
    }
    guard self[side].isAlive else {
      let failure: OpenFailure = random.chance(1, in: 2) ? .refused : .missing
      give(.streamUnavailable(stream, failure))
      return
    }
    let monitor = stream == .sourceOutOfBand ? 1 : 0
    guard let index = connect(.session(stream), to: side, monitor: monitor) else {
      give(.streamUnavailable(stream, .queueFull))
      return
    }
    sessionStreams[stream.rawValue] = index
    observer.opened(stream)
    var peer: PeerProcess?
    if scenario.isLocal {
      peer = PeerProcess(pid: side == .source ? 101 : 202, startTime: 1)
      knowsProcess[stream.rawValue] = true
      if side == .target { hasMetTarget = true }
    }
    give(.streamOpened(stream, peer: peer))
  }

  /// Another QEMU answers, which runs under the number of the one that is gone: it must not hear a word.
  private func meetSuccessor(_ stream: StreamID) {
    streams.append(
      SimulatedStream(
        client: .session(stream), side: stream.side, monitor: 0, delay: scenario.targetDelay))
    consoles.append([])
    let index = streams.count - 1
    streams[index].isOpenAtQEMU = false
    sessionStreams[stream.rawValue] = index
    // A session that never met the first one cannot tell.
    let isKnown = recovery == nil ? hasMetTarget : recoveryKnowsTarget
    give(.streamOpened(stream, peer: PeerProcess(pid: 202, startTime: 2)))
    guard sessionStreams[stream.rawValue] == index else { return }
    if isKnown {
      observer.violate(.oneGuestRuns, "another guest's QEMU is taken for the target", at: now)
    }
    cut(index, losingWhatIsOnItsWay: false)
  }

  /// Connects a client to a QEMU's monitor; nil when its queue is full.
  func connect(
    _ client: SimulatedStream.Client, to side: Side, monitor: Int = 0
  ) -> Int? {
    guard self[side].takesClient(ofMonitor: monitor) else { return nil }
    let delay = side == .source ? scenario.sourceDelay : scenario.targetDelay
    streams.append(
      SimulatedStream(client: client, side: side, monitor: monitor, delay: delay))
    consoles.append([])
    let index = streams.count - 1
    log.note("connect", at: now, number: UInt64(index)) { "\(client) to \(side)" }
    give(side, .clientConnected(client: index, monitor: monitor))
    return index
  }

  private func sessionCloses(_ stream: StreamID) {
    openAttempts[stream.rawValue] += 1
    guard let index = sessionStreams[stream.rawValue] else { return }
    sessionStreams[stream.rawValue] = nil
    if stream == .sourceMonitor, session != nil {
      leftSourceAt = now
      noteGivenWay()
      sourceAttachedAt = nil
    }
    closeByClient(index)
  }

  func closeByClient(_ index: Int) {
    guard streams[index].isOpenAtClient else { return }
    log.note("close", at: now, number: UInt64(index)) { "\(streams[index].client)" }
    streams[index].isOpenAtClient = false
    if streams[index].isOpenAtQEMU, !streams[index].isHalfOpen { endLater(index, at: .toQEMU) }
  }

  private func sessionWrites(_ bytes: [UInt8], on stream: StreamID) {
    observer.wrote(
      bytes, on: stream, source: source, target: target, host: host, at: now)
    guard let index = sessionStreams[stream.rawValue] else { return }
    log.note("write", at: now, bytes: bytes) {
      "\(stream) \(String(decoding: bytes, as: UTF8.self).dropLast())"
    }
    send(index, .toQEMU, bytes)
  }

  func sendToClient(_ index: Int, _ bytes: [UInt8]) { send(index, .toClient, bytes) }

  func send(_ index: Int, _ direction: SimulatedStream.Direction, _ bytes: [UInt8]) {
    guard !streams[index].isHalfOpen, !streams[index].isCut else { return }
    let isOpen = direction == .toQEMU ? streams[index].isOpenAtClient : streams[index].isOpenAtQEMU
    guard isOpen else { return }
    let (passed, isCut) = streams[index].pass(bytes.count, direction)
    var rest = bytes[0..<passed]
    while !rest.isEmpty {
      var piece = rest
      if scenario.isChopped, rest.count > 1 {
        piece = rest.prefix(Int(random.below(UInt64(rest.count))) + 1)
      }
      rest = rest.dropFirst(piece.count)
      let jitter = Span(nanoseconds: random.number(in: 0...scenario.jitter.nanoseconds))
      let arrival = streams[index].arrival(direction, at: now, jitter: jitter)
      let happening: Happening =
        direction == .toQEMU
        ? .atQEMU(stream: index, Array(piece)) : .atClient(stream: index, Array(piece))
      schedule(happening, at: arrival)
    }
    if isCut {
      streams[index].bytesBeforeCut = nil
      cut(index, losingWhatIsOnItsWay: false)
    }
  }

  func endLater(_ index: Int, at direction: SimulatedStream.Direction) {
    let arrival = streams[index].arrival(direction, at: now, jitter: .zero)
    schedule(
      direction == .toQEMU ? .endAtQEMU(stream: index) : .endAtClient(stream: index), at: arrival)
  }

  /// Ends a connection for both.
  func cut(_ index: Int, losingWhatIsOnItsWay isLossy: Bool) {
    guard !streams[index].isCut else { return }
    log.note("cut", at: now, number: UInt64(index)) { "\(streams[index].client)" }
    if streams[index].isOpenAtQEMU { endLater(index, at: .toQEMU) }
    if streams[index].isOpenAtClient { endLater(index, at: .toClient) }
    streams[index].isCut = true
    if isLossy { streams[index].isHalfOpen = true }
  }

  func arrivedAtQEMU(_ index: Int, _ bytes: [UInt8]) {
    guard streams[index].isOpenAtQEMU, !streams[index].isHalfOpen else { return }
    give(streams[index].side, .clientSent(client: index, bytes))
  }

  func arrivedAtClient(_ index: Int, _ bytes: [UInt8]) {
    guard streams[index].isOpenAtClient, !streams[index].isHalfOpen else { return }
    switch streams[index].client {
    case .session(let stream):
      guard sessionStreams[stream.rawValue] == index else { return }
      if stream == .sourceMonitor {
        leftSourceAt = nil
        sourceAttachedAt = sourceAttachedAt ?? now
      }
      log.note("read", at: now, bytes: bytes) {
        "\(stream) \(String(decoding: bytes, as: UTF8.self).split(separator: "\r\n").joined(separator: " | "))"
      }
      observer.delivered(bytes, on: stream, delay: streams[index].delay, at: now)
      receive(bytes, on: stream)
    case .hostProgram, .stranger: otherClientReceived(index, bytes)
    case .other(let client): otherClientReceived(client, at: index, bytes)
    case .console: consoles[index].append(contentsOf: bytes)
    }
  }

  func endedAtQEMU(_ index: Int) {
    guard streams[index].isOpenAtQEMU else { return }
    streams[index].isOpenAtQEMU = false
    give(streams[index].side, .clientLeft(client: index))
  }

  func endedAtClient(_ index: Int) {
    guard streams[index].isOpenAtClient else { return }
    streams[index].isOpenAtClient = false
    switch streams[index].client {
    case .session(let stream):
      guard sessionStreams[stream.rawValue] == index else { return }
      sessionStreams[stream.rawValue] = nil
      log.note("ended", at: now, number: UInt64(index)) { "\(stream)" }
      observer.delivered([], on: stream, delay: streams[index].delay, at: now)
      give(.streamEnded(stream, withProcess: endedWithProcess(index)))
    case .hostProgram, .stranger: otherClientEnded(index)
    case .other(let client): otherClientEnded(client, at: index)
    case .console: break
    }
  }

  /// Whether the kernel tells that the process was ending when its stream ended.
  ///
  /// A QEMU that is told to quit closes its monitors before that; one that is killed, or gives up, does
  /// not get to it.
  private func endedWithProcess(_ index: Int) -> Bool {
    let qemu = self[streams[index].side]
    return scenario.isLocal && !streams[index].isCut && !qemu.isAlive && !qemu.endedInOrder
  }

  // MARK: - Reports

  private func reported(_ report: SessionReport) {
    log.note("report", at: now) { "\(report)" }
    switch report {
    case .phaseChanged(let phase):
      if let row = MigrationPhase.transitions.firstIndex(where: {
        $0.from == lastPhase && $0.to == phase
      }) {
        transitions[row] += 1
      } else {
        observer.violate(
          .transitionTable, "\(lastPhase) became \(phase), which the table does not have", at: now)
      }
      lastPhase = phase
      phaseStriker(phase)
    case .handOverWanted:
      observer.handOverWanted(source: source, target: target, at: now)
      hostIsAsked()
    case .finished where session == nil: recoveryEnded()
    case .finished:
      sessionEndedAt = now
      if let conclusion = session?.conclusion {
        log.note("end", at: now) {
          "\(conclusion.end), owner \(conclusion.owner), guest \(conclusion.guest): "
            + "\(conclusion.failure?.text ?? "") next: \(conclusion.nextStep)"
        }
      }
      observer.ended(
        session?.conclusion, source: source, target: target,
        struck: struck + (scenario.others.count > 0 ? [.strangerAtSource] : []), at: now)
    case .progressed, .warning, .log: break
    }
  }
}
