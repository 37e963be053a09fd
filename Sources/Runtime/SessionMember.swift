import MigrationEngine
import MigrationSession
import Platform

/// A session in a loop: its effects carried out, and told what happened. Whatever the session is for,
/// this is the same.
public class SessionMember<Session: DrivenSession>: LoopMember, TunnelOwner {
  /// Inputs that the session may bring upon itself in one turn; the rest waits for the next.
  static var inputsPerTurn: Int { 64 }

  private(set) var session: Session
  private var routes: [StreamID: Route]
  /// By `StreamID`.
  private var streams = [Stream?](repeating: nil, count: StreamID.allCases.count)
  private var listeners = [ListenerQueue?](repeating: nil, count: StreamID.allCases.count)
  private var exitWatches = [ExitWatch?](repeating: nil, count: StreamID.allCases.count)
  private var inputs: [SessionInput] = []
  private var effects: [SessionEffect] = []
  /// Locked as long as the member lives: until its end or its closing.
  private var journal: JournalFile?
  /// What the journal is to hold next.
  private var record: [UInt8]?
  private var isFinishHeldBack = false
  /// Asked to start, and waiting for its tunnels.
  private var isStartAwaited = false

  /// Whether it has ended and its outcome is in the journal, if there is one.
  public private(set) var isFinished = false

  init(in loop: Loop, session: Session, routes: [StreamID: Route], journal: JournalFile?) {
    self.session = session
    self.routes = routes
    self.journal = journal
    super.init(in: loop)
    for route in routes.values { route.tunnel?.owner = self }
  }

  // MARK: - What is asked

  /// Passes on what the host program wants.
  public func request(_ request: HostRequest) throws(LoopError) {
    guard let loop else { throw .closed }
    try loop.check()
    if request == .start {
      willStart()
      isStartAwaited = true
      // What goes through a tunnel finds it open, and nothing is set up in the guest's blackout.
      for route in routes.values { route.tunnel?.open() }
    }
    if request != .start || !routes.values.contains(where: \.isOpening) { startAwaited() }
    if request != .start {
      advance { $0.handle(.requested(request), at: Self.now, effects: &$1) }
    }
    try loop.settle()
  }

  // What the subclasses add.

  func willStart() { warnOfClearTextMonitors() }
  /// The session has taken something, and its effects are carried out.
  func didAdvance() {}

  // MARK: - What happened

  override func streamOpened(_ stream: Stream) {
    let peer = watchedPeer(of: stream)
    advance { session, effects in
      guard let id = StreamID(rawValue: stream.key) else { return }
      session.handle(.streamOpened(id, peer: peer), at: Self.now, effects: &effects)
    }
  }

  override func streamFailed(_ stream: Stream, _ failure: OpenFailure) {
    forget(stream)
    take(stream) { .streamUnavailable($0, failure) }
  }

  override func streamReceived(_ bytes: UnsafeRawBufferPointer, on stream: Stream) {
    guard let id = StreamID(rawValue: stream.key) else { return }
    advance { $0.received(bytes, on: id, at: Self.now, effects: &$1) }
  }

  override func streamEnded(_ stream: Stream) {
    // The stream is closed by now; whoever was behind it is watched.
    let withProcess = exitWatches[stream.key]?.peer.isEnding ?? false
    forget(stream)
    take(stream) { .streamEnded($0, withProcess: withProcess) }
  }

  override func processExited(_ watch: ExitWatch) {
    guard let id = StreamID(rawValue: watch.key) else { return }
    advance { $0.handle(.processExited(id), at: Self.now, effects: &$1) }
  }

  override func deadlineReached() {
    advance { $0.handle(.timePassed, at: Self.now, effects: &$1) }
  }

  override func continuePostponed() { advance { _, _ in } }

  /// Stores the record and tells the session, which waits for it, or the host program, which would
  /// not hear of it otherwise.
  override func storeRecord() {
    guard let bytes = record else { return }
    record = nil
    let trouble = write(bytes)
    if !isFinishHeldBack {
      let input: SessionInput = trouble.map { .recordNotStored(text: $0) } ?? .recordStored
      advance { $0.handle(input, at: Self.now, effects: &$1) }
    } else if let trouble {
      post(.warning("\(trouble): the outcome is not in the journal"))
    }
    if isFinishHeldBack { finish() }
  }

  override func closeStreams() {
    // Freed before its turn came: the outcome is worth the wait.
    if let bytes = record, isFinishHeldBack, loop?.isForeign == false { _ = write(bytes) }
    record = nil
    journal = nil
    for stream in streams { stream?.close() }
    for watch in exitWatches { watch?.stop() }
    for index in streams.indices {
      streams[index] = nil
      exitWatches[index] = nil
    }
    for id in routes.keys { routes[id]?.close() }
    routes = [:]
    inputs = []
  }

  // MARK: - Tunnels

  func tunnelSettled(_ tunnel: Tunnel) {
    if !routes.values.contains(where: \.isOpening) { startAwaited() }
  }

  func tunnelSaid(_ text: String, isWarning: Bool) {
    post(isWarning ? .warning(text) : .log(text))
  }

  /// Starts the session, whatever became of the tunnels: it hears of that when it uses them.
  private func startAwaited() {
    guard isStartAwaited else { return }
    isStartAwaited = false
    advance { $0.handle(.requested(.start), at: Self.now, effects: &$1) }
  }

  // MARK: - Effects

  private static var now: MonotonicInstant { MonotonicInstant(nanoseconds: MonotonicClock.now) }

  private func take(_ stream: Stream, _ input: (StreamID) -> SessionInput) {
    guard let id = StreamID(rawValue: stream.key) else { return }
    let input = input(id)
    advance { $0.handle(input, at: Self.now, effects: &$1) }
  }

  /// Lets the session take something, carries out what it wants, and tells it what came of that.
  private func advance(_ body: (inout Session, inout [SessionEffect]) -> Void) {
    body(&session, &effects)
    carryOutAll()
    var rest = Self.inputsPerTurn
    while !inputs.isEmpty {
      if rest == 0 {
        loop?.postpone(self)
        break
      }
      rest -= 1
      let input = inputs.removeFirst()
      session.handle(input, at: Self.now, effects: &effects)
      carryOutAll()
    }
    loop?.setDeadline(self, session.nextDeadline?.nanoseconds)
    didAdvance()
  }

  private func carryOutAll() {
    guard !effects.isEmpty else { return }
    for index in effects.indices { carryOut(effects[index]) }
    effects.removeAll(keepingCapacity: true)
  }

  private func carryOut(_ effect: SessionEffect) {
    switch effect {
    case .write(let id, let bytes): write(bytes, to: id)
    case .open(let id, _): open(id)
    case .close(let id): close(id)
    case .countWaiting(let id, let endpoint):
      inputs.append(.clientsCounted(id, waitingClients(id, endpoint)))
    case .persist(let bytes):
      record = bytes
      loop?.store(self)
    case .report(let report): post(report)
    }
  }

  private func write(_ bytes: [UInt8], to id: StreamID) {
    guard let stream = streams[id.rawValue], !stream.write(bytes) else { return }
    // It has stopped reading for so long that more cannot be kept for it.
    close(id)
    inputs.append(.streamEnded(id, withProcess: false))
  }

  private func open(_ id: StreamID) {
    guard let loop else { return }
    streams[id.rawValue]?.close()
    do throws(OpenFailure) {
      guard let stream = try routes[id]?.open(key: id.rawValue, member: self, loop: loop) else {
        return
      }
      streams[id.rawValue] = stream
      if stream.isOpen { inputs.append(.streamOpened(id, peer: watchedPeer(of: stream))) }
    } catch {
      inputs.append(.streamUnavailable(id, error))
    }
  }

  /// nil where the kernel cannot tell.
  private func waitingClients(_ id: StreamID, _ endpoint: Endpoint) -> Int? {
    guard case .unix(let path) = endpoint else { return nil }
    let queue = listeners[id.rawValue] ?? ListenerQueue(path: path)
    listeners[id.rawValue] = queue
    return queue.waitingClients()
  }

  private func close(_ id: StreamID) {
    streams[id.rawValue]?.close()
    streams[id.rawValue] = nil
    inputs.removeAll { input in
      switch input {
      case .streamOpened(let stream, _), .streamUnavailable(let stream, _),
        .streamEnded(let stream, _):
        stream == id
      case .requested, .recordStored, .recordNotStored, .clientsCounted, .processExited,
        .timePassed:
        false
      }
    }
  }

  private func forget(_ stream: Stream) {
    if streams.indices.contains(stream.key), streams[stream.key] === stream {
      streams[stream.key] = nil
    }
  }

  func post(_ report: SessionReport) {
    switch report {
    case .phaseChanged(let phase): loop?.post(.phaseChanged(phase), from: self)
    case .progressed: loop?.post(.progressed, from: self)
    case .handOverWanted: loop?.post(.handOverWanted, from: self)
    case .warning(let text): loop?.post(.warning(text), from: self)
    case .log(let text): loop?.post(.log(text), from: self)
    case .finished:
      // Who hears of the end may end too: the outcome is made durable first.
      if record == nil { finish() } else { isFinishHeldBack = true }
    }
  }

  private func finish() {
    isFinishHeldBack = false
    isFinished = true
    journal = nil
    for watch in exitWatches { watch?.stop() }
    for id in routes.keys { routes[id]?.close() }
    routes = [:]
    loop?.post(.finished, from: self)
  }

  // MARK: - Journal

  /// Returns what went wrong.
  private func write(_ bytes: [UInt8]) -> String? {
    guard let journal else { return "there is no journal" }
    do throws(JournalError) {
      try journal.replace(with: bytes)
      return nil
    } catch {
      return error.description
    }
  }

  private func warnOfClearTextMonitors() {
    for id in StreamID.allCases {
      guard case .addresses(let addresses)? = routes[id],
        addresses.contains(where: { $0.isTCP && !$0.isLocal })
      else { continue }
      post(
        .warning("the \(id.side)'s monitor is reached by plain tcp: anybody on the way can use it"))
    }
  }

  // MARK: - Peers

  /// The QEMU at the other end, if the kernel proves that it is one and will tell of its exit.
  ///
  /// The same process is watched once, however often its stream is opened.
  private func watchedPeer(of stream: Stream) -> PeerProcess? {
    guard let loop, let peer = stream.peer, peer.isQEMU, let identity = peer.identity else {
      return nil
    }
    if exitWatches[stream.key]?.peer.identity != identity {
      guard let watch = ExitWatch(peer, key: stream.key, member: self, loop: loop) else {
        return nil
      }
      // A stranger that took the address over is not the process that the session asks about.
      if exitWatches[stream.key] == nil { exitWatches[stream.key] = watch } else { watch.stop() }
    }
    return PeerProcess(pid: identity.processIdentifier, startTime: identity.startTime)
  }
}
