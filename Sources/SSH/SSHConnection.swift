import CSSHTransport
import MigrationEngine
import Platform

/// One SSH connection over a connected socket: host key, login and any number of channels.
///
/// It never waits and starts no thread. Wait until a descriptor of `interests` is ready or
/// `nextDeadline` has come (not at all while `hasPendingWork`), call `step`, act on the notices;
/// then again. Calls on channels are allowed in between and may leave work for the next step.
/// Spurious steps change nothing. One thread at a time; connections are independent of each other.
///
/// A forked child may only let go of its copy: that closes descriptors and sends nothing.
public final class SSHConnection {
  enum Phase {
    case handshaking
    case authenticating(Authentication)
    case ready
    case closing
    /// Over; what has arrived can be read.
    case lost(SSHError)
    case closed
  }

  let configuration: SSHConfiguration
  let transport: UnsafeMutablePointer<ssh_transport>
  private let socket: Descriptor
  let knownHosts: KnownHosts?
  private let keyFiles: [PrivateKeyFile.Loading]

  var phase = Phase.handshaking
  private var phaseDeadline: MonotonicInstant
  private var notices: [SSHNotice] = []

  /// When something last came from the server, and how much had come by then.
  private var lastSign: MonotonicInstant
  private var receivedAtLastSign: UInt64 = 0
  /// Why the connection is to end, found out between two steps.
  var pendingFailure: SSHError?
  /// A call since the last step left something to do for the next.
  var hasQueuedWork = false

  var channels: [Channel] = []
  /// What libssh2 is opening now: one channel after the other.
  var opening = Opening.nothing
  var lastChannelNumber: UInt64 = 0

  /// Takes over a connected, non-blocking stream socket.
  ///
  /// Reads the known_hosts files and the private keys, where `SSHConfiguration.loadFiles` has not, and
  /// **blocks** as long as that takes; nothing later reads a file. A key with a passphrase costs its key derivation when the server has
  /// accepted it, inside one step (around 0.1 s with OpenSSH's defaults).
  public init(
    socket: Descriptor, configuration: SSHConfiguration, at now: MonotonicInstant
  ) throws(SSHError) {
    guard
      let transport = ssh_transport_create(
        socket.number, Self.memoryLimit(configuration.limits), Self.outputLimit)
    else {
      throw SSHError(
        endpoint: configuration.endpoint, step: .connection, reason: .libraryUnavailable,
        text: "libssh2 did not start", anotherCarrierMayWork: true)
    }
    self.socket = socket
    self.configuration = configuration
    self.transport = transport
    let files = configuration.files ?? SSHConfiguration.LoadedFiles(configuration)
    knownHosts = files.knownHosts
    keyFiles = files.keys
    phaseDeadline = now + configuration.limits.handshake
    lastSign = now
    transport.pointee.handshaking = true
    hasQueuedWork = true
    preferAlgorithms()
  }

  deinit { ssh_transport_destroy(transport) }

  /// The descriptors to wait for; the set may change with each step.
  public var interests: [SSHInterest] {
    let wantsWrite = ssh_transport_output_count(transport) > 0
    switch phase {
    case .closed, .lost: return []
    case .handshaking, .ready, .closing:
      return [socketInterest(wantsWrite: wantsWrite)]
    case .authenticating(let authentication):
      let agent = authentication.agent.map { [$0.interest] } ?? []
      return [socketInterest(wantsWrite: wantsWrite)] + agent
    }
  }

  /// When the next step is due whatever the descriptors say; nil if never.
  public var nextDeadline: MonotonicInstant? {
    switch phase {
    case .closed, .lost: nil
    case .handshaking, .authenticating, .closing: phaseDeadline
    case .ready:
      channels.compactMap(\.deadline).reduce(livenessDeadline) { min($0, $1) }
    }
  }

  /// Whether a step would get on at once: no descriptor announces what was asked for since the last
  /// step, nor what it left because it had received enough.
  public var hasPendingWork: Bool {
    switch phase {
    case .closed, .lost: !notices.isEmpty
    default: hasQueuedWork || pendingFailure != nil || transport.pointee.budget_exhausted
    }
  }

  /// Whether channels can be opened.
  public var isReady: Bool { if case .ready = phase { true } else { false } }

  /// Carries everything on as far as it goes without waiting.
  public func step(at now: MonotonicInstant) -> [SSHNotice] {
    hasQueuedWork = false
    transport.pointee.receive_budget = configuration.limits.inputPerStep
    transport.pointee.budget_exhausted = false
    ssh_transport_flush(transport)
    advance(at: now)
    ssh_transport_flush(transport)
    announceWritable()
    transport.pointee.receive_budget = 0
    noteLiveness(at: now)
    checkDeadlines(at: now)
    if let failure = pendingFailure ?? brokenTransport() { fail(failure) }
    defer { notices = [] }
    return notices
  }

  /// Ends the connection in good form: tells the server and closes the socket when that is sent, or
  /// when the limit for closing has passed. The next steps carry it out; `closed` is the last notice.
  public func close(at now: MonotonicInstant) {
    switch phase {
    case .closed, .closing: return
    case .lost, .handshaking: finish()
    case .authenticating, .ready:
      let farewell = libssh2_session_disconnect_ex(
        transport.pointee.session, SSH_DISCONNECT_BY_APPLICATION, "", "")
      ssh_transport_flush(transport)
      phase = .closing
      phaseDeadline = now + configuration.limits.closing
      if farewell != 0 { finish() }
    }
    hasQueuedWork = true
  }

  /// Lets go at once: nothing is sent, the socket is closed.
  public func abandon() {
    if case .closed = phase { return }
    transport.pointee.muted = true
    phase = .closed
    channels = []
    notices = []
    socket.close()
  }
}

// MARK: - Phases

extension SSHConnection {
  private static let outputLimit = 8 << 20
  /// A server that has said this much before the login is done is not one.
  private static let inputLimitBeforeLogin: UInt64 = 1 << 20

  /// What libssh2 may use: its own structures and what the server may send ahead on every channel,
  /// with room for the overhead of small packets.
  private static func memoryLimit(_ limits: SSHConfiguration.Limits) -> Int {
    let (ahead, overflow) = limits.channels.multipliedReportingOverflow(by: limits.channelWindow)
    let (bounded, tooMuch) = ahead.multipliedReportingOverflow(by: 4)
    return overflow || tooMuch ? 1 << 40 : min(max(bounded, 0), 1 << 40) + 16 << 20
  }

  private func advance(at now: MonotonicInstant) {
    if case .handshaking = phase { advanceHandshake(at: now) }
    if case .authenticating(let authentication) = phase {
      switch authenticate(authentication) {
      case .waiting: break
      case .accepted(let key):
        phase = .ready
        lastSign = now
        notices.append(.authenticated(key))
      case .failed(let error): fail(error)
      }
    }
    if case .ready = phase { serveChannels(at: now) }
    if case .closing = phase, ssh_transport_output_count(transport) == 0 { finish() }
  }

  private func advanceHandshake(at now: MonotonicInstant) {
    let status = libssh2_session_handshake(transport.pointee.session, socket.number)
    if status == LIBSSH2_ERROR_EAGAIN {
      if transport.pointee.received > Self.inputLimitBeforeLogin {
        fail(chattyServer(.handshake))
      }
      return
    }
    transport.pointee.handshaking = false
    guard status == 0 else { return fail(handshakeError(status)) }
    switch verifyHostKey() {
    case .success(let key):
      notices.append(.hostKeyVerified(key))
      phase = .authenticating(Authentication(keyFiles: keyFiles))
      phaseDeadline = now + configuration.limits.authentication
    case .failure(let error): fail(error)
    }
  }

  func notify(_ notice: SSHNotice) { notices.append(notice) }

  func fail(_ error: SSHError) {
    switch phase {
    case .lost, .closed: return
    case .closing: return finish()
    case .handshaking, .authenticating, .ready: break
    }
    pendingFailure = nil
    transport.pointee.muted = true
    phase = .lost(error)
    notices.append(.failed(error))
  }

  private func finish() {
    transport.pointee.muted = true
    phase = .closed
    channels = []
    socket.close()
    notices.append(.closed)
  }

  private func socketInterest(wantsWrite: Bool) -> SSHInterest {
    var reads = true
    if case .closing = phase { reads = false }
    return SSHInterest(descriptor: socket.number, wantsRead: reads, wantsWrite: wantsWrite)
  }

  // MARK: Time

  private var livenessDeadline: MonotonicInstant {
    let limits = configuration.limits
    return isProbing ? lastSign + limits.silence : lastSign + limits.keepaliveInterval
  }

  func isKeepaliveDue(at now: MonotonicInstant) -> Bool {
    now - lastSign >= configuration.limits.keepaliveInterval
  }

  private func noteLiveness(at now: MonotonicInstant) {
    guard transport.pointee.received != receivedAtLastSign else { return }
    receivedAtLastSign = transport.pointee.received
    lastSign = now
  }

  private func checkDeadlines(at now: MonotonicInstant) {
    switch phase {
    case .closed, .lost: return
    case .closing: if now >= phaseDeadline { finish() }
    case .handshaking: if now >= phaseDeadline { fail(timeout(.handshake, "key exchange")) }
    case .authenticating:
      if now >= phaseDeadline { fail(timeout(.authentication, "login")) }
    case .ready:
      if now - lastSign >= configuration.limits.silence {
        fail(timeout(.connection, "sign of life"))
      }
    }
  }
}
