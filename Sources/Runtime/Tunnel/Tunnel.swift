import MigrationEngine
import MigrationSession
import Platform
import SSH

/// Whoever uses a tunnel.
protocol TunnelOwner: AnyObject {
  /// The first attempt to open it has come to its end, well or not.
  func tunnelSettled(_ tunnel: Tunnel)
  func tunnelSaid(_ text: String, isWarning: Bool)
}

/// The way to one other host: streams to its monitor, and local sockets that lead to other sockets
/// there.
///
/// It decides which carrier takes what, and opens everything at once, so that nothing is set up in a
/// guest's blackout. A connection that is lost is made again when a stream is wanted.
final class Tunnel: LoopMember, CarrierOwner {
  /// From one attempt to the next.
  private static let retryInterval = Span.milliseconds(500)

  private enum State {
    case closed
    case opening
    case open
    /// The last attempt failed, or what carried the monitor is lost.
    case broken(String)
  }

  weak var owner: (any TunnelOwner)?

  private let settings: SSHSettings
  private let choice: SSHOptions.CarrierChoice
  private let directory: PrivateDirectory
  private let monitor: Forward
  private let forwards: [Forward]
  private var state = State.closed
  private var isSettled = false
  /// Being opened, or open.
  private var library: LibraryCarrier?
  private var program: ProgramCarrier?
  /// Why there is none of them.
  private var troubles: [String] = []
  /// Streams that wait for the monitor's carrier.
  private var waiting: [(stream: Stream, path: String)] = []
  private var nextAttempt: MonotonicInstant?

  /// Reads what ssh's configuration says; **blocks** as `SSHSettings` does. Nothing is connected yet.
  ///
  /// - Parameters:
  ///   - endpoint: an ssh address.
  ///   - monitor: the monitor's path on the other host.
  ///   - forwards: what else is to be reached there.
  init(
    to endpoint: Endpoint, in loop: Loop, monitor: String, forwards: [Forward]
  ) throws(RouteError) {
    guard case .ssh(let user, let host, let port, _) = endpoint else {
      throw .tunnel("\(endpoint) is no ssh address")
    }
    settings = try SSHSettings(user: user, host: host, port: port, options: loop.ssh)
    choice = loop.ssh.carrier
    self.monitor = Forward(.monitor, path: monitor)
    self.forwards = forwards
    do throws(SystemError) {
      directory = try PrivateDirectory()
    } catch {
      throw .tunnel("no private directory for sockets: \(error)")
    }
    super.init(in: loop)
  }

  /// Whether its first attempt is under way.
  var isOpening: Bool { if case .opening = state { !isSettled } else { false } }

  /// Where a program here finds what leads to the other host; nil where that was not asked for.
  func localPath(_ purpose: Forward.Purpose) -> String? {
    guard let forward = forwards.first(where: { $0.purpose == purpose }) else { return nil }
    return try? directory.socketPath(forward.localName)
  }

  /// Begins to open everything.
  func open() {
    switch state {
    case .opening, .open: return
    case .closed, .broken: break
    }
    state = .opening
    troubles = []
    nextAttempt = MonotonicInstant(nanoseconds: MonotonicClock.now) + Self.retryInterval
    if choice != .system, library == nil { openLibrary() }
    let programIsWanted = choice == .system || choice == .automatic && carriesBulk
    if programIsWanted, program == nil { openProgram() }
    decide()
  }

  /// Brings the stream a connection to `path` there, opening what is not open.
  func connect(_ stream: Stream, to path: String) {
    waiting.append((stream, path))
    loop?.postpone(self)
  }

  override func continuePostponed() {
    switch state {
    case .open: serveWaiting()
    case .opening: break
    case .closed: open()
    case .broken(let text):
      // What failed at the start is said at once; a lost way is tried again, but not all the time.
      if !isSettled || wasOpen { retry() } else { refuseWaiting(text) }
    }
  }

  override func deadlineReached() {
    loop?.setDeadline(self, nil)
    waiting.removeAll { !$0.stream.isAwaited }
    if !waiting.isEmpty, case .broken = state { open() }
  }

  override func closeStreams() {
    state = .closed
    library?.close()
    program?.close()
    library = nil
    program = nil
    waiting = []
    directory.remove()
    owner = nil
  }

  // MARK: - Carriers

  private var wasOpen = false

  /// Memory and disks are carried by ssh from its start to its end: what is lost of them is lost.
  private var carriesBulk: Bool { !forwards.isEmpty && !wasOpen }

  private func openLibrary() {
    guard let loop else { return }
    switch settings.library {
    case .failure(let obstacle): troubles.append("libssh2: \(obstacle.text)")
    case .success(let way):
      let carrier = LibraryCarrier(way, in: loop)
      library = carrier
      carrier.owner = self
      carrier.open()
    }
  }

  private func openProgram() {
    guard let loop else { return }
    let carrier = ProgramCarrier(
      settings, forwards: [monitor] + (wasOpen ? [] : forwards), directory: directory, in: loop)
    program = carrier
    carrier.owner = self
    carrier.open()
  }

  func carrierOpened(_ carrier: any Carrier) { decide() }

  func carrierFailed(_ carrier: any Carrier, _ text: String) {
    let carriedMonitor = monitorCarrier === carrier
    if library === carrier { library = nil }
    if program === carrier { program = nil }
    switch state {
    case .opening:
      troubles.append(text)
      decide()
    case .open:
      if carriedMonitor { state = .broken(text) }
      monitorCarrier = carriedMonitor ? nil : monitorCarrier
      carrierSaid("connection lost: \(text)", isWarning: true)
    case .closed, .broken: break
    }
  }

  func carrierSaid(_ text: String, isWarning: Bool) {
    owner?.tunnelSaid("\(settings.destination): \(text)", isWarning: isWarning)
  }

  // MARK: - Deciding

  /// What carries the monitor.
  private weak var monitorCarrier: (any Carrier)?

  /// Once every carrier that was started is ready or has failed, each gets its part.
  private func decide() {
    guard case .opening = state else { return }
    let started: [(any Carrier)?] = [library, program]
    guard started.allSatisfy({ $0?.isReady ?? true }) else { return }
    if choice == .automatic, library == nil, program == nil, !programWasTried {
      programWasTried = true
      openProgram()
      return decide()
    }
    let control: (any Carrier)? = library ?? program
    let bulk: (any Carrier)? = carriesBulk ? program ?? library : nil
    guard let control else { return settle(.broken(troubles.joined(separator: "; "))) }
    if let library, bulk === library, let text = listen(library) { return settle(.broken(text)) }
    monitorCarrier = control
    for trouble in troubles { carrierSaid("not used: \(trouble)", isWarning: false) }
    carrierSaid("monitor by \(control.name)", isWarning: false)
    if let bulk {
      let words = forwards.map(\.purpose.words).joined(separator: " and ")
      carrierSaid("\(words) by \(bulk.name), in \(directory.path)", isWarning: false)
    }
    wasOpen = true
    settle(.open)
  }

  private var programWasTried = false

  /// Returns what went wrong.
  private func listen(_ carrier: LibraryCarrier) -> String? {
    do throws(SystemError) {
      try carrier.listen(forwards, in: directory)
      return nil
    } catch {
      return "no socket for \(settings.destination) in \(directory.path): \(error)"
    }
  }

  private func settle(_ next: State) {
    state = next
    programWasTried = false
    loop?.postpone(self)
    guard !isSettled else { return }
    isSettled = true
    owner?.tunnelSettled(self)
  }

  // MARK: - Streams

  private func serveWaiting() {
    guard let carrier = monitorCarrier else { return }
    let batch = waiting
    waiting = []
    for (stream, path) in batch where stream.isAwaited { carrier.connect(stream, to: path) }
  }

  private func refuseWaiting(_ text: String) {
    let batch = waiting
    waiting = []
    for (stream, _) in batch where stream.isAwaited { stream.refuse(.other(text: text)) }
  }

  private func retry() {
    waiting.removeAll { !$0.stream.isAwaited }
    guard !waiting.isEmpty else { return }
    let now = MonotonicInstant(nanoseconds: MonotonicClock.now)
    if let nextAttempt, now < nextAttempt {
      loop?.setDeadline(self, nextAttempt.nanoseconds)
    } else {
      open()
    }
  }
}
