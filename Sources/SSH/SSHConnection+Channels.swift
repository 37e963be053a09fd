import CSSHTransport
import MigrationEngine

// MARK: - For callers

extension SSHConnection {
  /// Runs `command` by the user's shell on the server.
  ///
  /// `channelOpened` or `channelRefused` follows. Read both of its streams: what is left unread
  /// holds up the other one too, in time.
  public func openCommand(
    _ command: String, at now: MonotonicInstant
  ) throws(SSHError) -> SSHChannelID {
    try open("session", [], command: command, destination: "a command", at: now)
  }

  /// Connects to a unix socket on the server (`direct-streamlocal@openssh.com`).
  ///
  /// libssh2 1.11 has a call of its own for it, which sends the same and cannot set the window.
  public func openUnixSocket(
    _ path: String, at now: MonotonicInstant
  ) throws(SSHError) -> SSHChannelID {
    var payload = WireWriter()
    payload.append(string: path.utf8)
    payload.append(string: [])
    payload.append(number: 0)
    return try open(
      "direct-streamlocal@openssh.com", payload.bytes, destination: path, at: now)
  }

  /// Connects from the server to `host` and `port` (`direct-tcpip`); the server resolves the name.
  public func openTCP(
    host: String, port: UInt16, at now: MonotonicInstant
  ) throws(SSHError) -> SSHChannelID {
    var payload = WireWriter()
    payload.append(string: host.utf8)
    payload.append(number: UInt32(port))
    payload.append(string: "127.0.0.1".utf8)
    payload.append(number: 0)
    return try open("direct-tcpip", payload.bytes, destination: "\(host):\(port)", at: now)
  }

  /// Reads what has arrived; never touches the socket's input.
  ///
  /// Also after the connection has failed, until everything that had arrived is read.
  public func read(
    _ id: SSHChannelID, _ stream: SSHStream = .output, into room: UnsafeMutableRawBufferPointer
  ) throws(SSHError) -> SSHReadResult {
    let channel = try find(id)
    guard let handle = channel.handle, !room.isEmpty else { return .wouldBlock }
    // Larger reads would make libssh2 enlarge the window.
    let wanted = min(room.count, Self.largestRead)
    let count = libssh2_channel_read_ex(
      handle, stream == .error ? SSH_EXTENDED_DATA_STDERR : 0,
      room.baseAddress?.assumingMemoryBound(to: CChar.self), wanted)
    if ssh_transport_output_count(transport) > 0 { ssh_transport_flush(transport) }
    if count == wanted { return .bytes(count) }
    channel.isReadAnnounced = false
    // With everything read, the next step finds out whether the channel is closed.
    if libssh2_channel_eof(handle) != 0 { hasQueuedWork = true }
    if count > 0 { return .bytes(count) }
    if count == 0 {
      if stream == .output { channel.isEndRead = true }
      return .endOfFile
    }
    if count == Int(LIBSSH2_ERROR_EAGAIN) {
      if case .lost(let error) = phase { throw error }
      return .wouldBlock
    }
    throw callFailed(Int32(clamping: count))
  }

  /// Writes as much of `bytes` as the other side and the socket have room for; the number of bytes
  /// taken. `channelWritable` says when to go on after fewer than given.
  public func write(
    _ bytes: UnsafeRawBufferPointer, to id: SSHChannelID
  ) throws(SSHError) -> Int {
    let channel = try find(id)
    if case .lost(let error) = phase { throw error }
    guard case .open = channel.state, let handle = channel.handle, !channel.wantsEnd else {
      throw closed(channel)
    }
    var taken = 0
    while taken < bytes.count, channel.pendingWrite.isEmpty, hasRoom(handle) {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[taken...])
      let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.largestPiece))
      let count = libssh2_channel_write_ex(
        handle, 0, piece.baseAddress?.assumingMemoryBound(to: CChar.self), piece.count)
      if count == Int(LIBSSH2_ERROR_EAGAIN) {
        channel.pendingWrite = Array(piece)
        taken += piece.count
      } else if count > 0 {
        taken += count
      } else {
        throw callFailed(Int32(clamping: count))
      }
    }
    ssh_transport_flush(transport)
    channel.isWriteBlocked = taken < bytes.count
    return taken
  }

  /// Tells the other side that nothing more will be written, once what was taken is sent.
  public func finishWriting(_ id: SSHChannelID) throws(SSHError) {
    let channel = try find(id)
    guard !channel.wantsEnd else { return }
    channel.wantsEnd = true
    hasQueuedWork = true
  }

  /// Gives the channel up, unread data included. `channelClosed` follows within the limit for
  /// closing; nothing else of this channel does.
  public func close(_ id: SSHChannelID, at now: MonotonicInstant) {
    guard let channel = try? find(id) else { return }
    hasQueuedWork = true
    switch channel.state {
    case .queued: forget(channel)
    case .opening: forget(channel)
    case .starting, .open: beginClosing(channel, at: now)
    case .closing: break
    }
  }

  /// How many channels there are, those being opened or closed included.
  public var channelCount: Int { channels.count }
}

// MARK: - In each step

extension SSHConnection {
  private static let largestPiece = 32_000
  private static let largestRead = 64 << 10
  /// An open channel accepts packets of this size, the largest that every side must take.
  private static let packetSize: UInt32 = 32_768
  private static let probeType = "probe@libswitchover"
  /// Longer paths, names and commands do not go into one message.
  private static let requestLimit = 16 << 10

  var isProbing: Bool { if case .probe = opening { true } else { false } }

  func serveChannels(at now: MonotonicInstant) {
    let failure = takeInput(at: now)
    for channel in channels {
      switch channel.state {
      case .queued, .opening: checkOpening(channel, at: now)
      case .starting: start(channel, at: now)
      case .open: serve(channel, at: now)
      case .closing: finishClosing(channel, at: now)
      }
    }
    if let failure { pendingFailure = pendingFailure ?? failure }
  }

  /// Receives what is there. libssh2 does that only in the course of some operation: opening, or
  /// reading nothing from some channel. Without either, a server that wants something (new keys, a
  /// sign of life) is heard by means of a probe.
  private func takeInput(at now: MonotonicInstant) -> SSHError? {
    if let failure = advanceOpening() { return failure }
    if case .nothing = opening {
      if let next = channels.first(where: { if case .queued = $0.state { true } else { false } }) {
        next.state = .opening
        opening = .channel(next)
      } else if isKeepaliveDue(at: now) || !hasLiveHandle && ssh_transport_peek(transport) != 0 {
        opening = .probe
      }
      if let failure = advanceOpening() { return failure }
    }
    guard let handle = liveHandle else { return nil }
    var received: UInt64
    repeat {
      received = transport.pointee.received
      var nothing: CChar = 0
      let status = libssh2_channel_read_ex(handle, 0, &nothing, 0)
      if status == Int(LIBSSH2_ERROR_EAGAIN) { return nil }
      if status < 0 { return callError(.connection, Int32(clamping: status)) }
    } while transport.pointee.received != received
    return nil
  }

  /// A channel that libssh2 may still speak on.
  private var liveHandle: OpaquePointer? {
    for channel in channels {
      switch channel.state {
      case .starting, .open: if let handle = channel.handle { return handle }
      case .queued, .opening, .closing: break
      }
    }
    return nil
  }

  private var hasLiveHandle: Bool {
    channels.contains { $0.handle != nil }
  }

  private func advanceOpening() -> SSHError? {
    let channel: Channel?
    switch opening {
    case .nothing: return nil
    case .channel(let next): channel = next
    case .probe: channel = nil
    }
    let type = channel?.type ?? Self.probeType
    let window = UInt32(clamping: configuration.limits.channelWindow)
    let session = transport.pointee.session
    let handle = (channel?.payload ?? []).withUnsafeBytes { payload in
      libssh2_channel_open_ex(
        session, type, UInt32(type.utf8.count), window, Self.packetSize,
        payload.baseAddress?.assumingMemoryBound(to: CChar.self), UInt32(payload.count))
    }
    if let handle {
      opening = .nothing
      opened(channel, handle)
      return nil
    }
    let status = libssh2_session_last_errno(session)
    if status == LIBSSH2_ERROR_EAGAIN { return nil }
    opening = .nothing
    guard status == LIBSSH2_ERROR_CHANNEL_FAILURE || status == LIBSSH2_ERROR_TIMEOUT else {
      return callError(.channel, status)
    }
    if let channel { refuse(channel, refusal(channel, status)) }
    return nil
  }

  private func opened(_ channel: Channel?, _ handle: OpaquePointer) {
    guard let channel else { return closeProbe(handle) }
    channel.handle = handle
    if channel.isForgotten {
      channel.state = .closing
    } else if channel.command != nil {
      channel.state = .starting
    } else {
      becomeOpen(channel)
    }
  }

  /// A server that opens a channel of a type that does not exist gets it back.
  private func closeProbe(_ handle: OpaquePointer) {
    let channel = Channel(
      id: newChannelID(), type: Self.probeType, payload: [], destination: "", deadline: nil)
    channel.handle = handle
    channel.isForgotten = true
    channel.state = .closing
    channels.append(channel)
  }

  private func becomeOpen(_ channel: Channel) {
    channel.state = .open
    channel.deadline = nil
    notify(.channelOpened(channel.id))
  }

  private func checkOpening(_ channel: Channel, at now: MonotonicInstant) {
    guard let deadline = channel.deadline, now >= deadline else { return }
    refuse(channel, openingTimeout(channel))
  }

  private func start(_ channel: Channel, at now: MonotonicInstant) {
    guard let handle = channel.handle, let command = channel.command else { return }
    let status = libssh2_channel_process_startup(
      handle, "exec", 4, command, UInt32(command.utf8.count))
    if status == 0 { return becomeOpen(channel) }
    if status == LIBSSH2_ERROR_EAGAIN { return checkOpening(channel, at: now) }
    if status == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED {
      return refuse(
        channel, error(.channel, .commandRefused, "the server did not start the command"))
    }
    pendingFailure = pendingFailure ?? callError(.channel, status)
  }

  private func serve(_ channel: Channel, at now: MonotonicInstant) {
    guard let handle = channel.handle else { return }
    sendPending(channel, handle)
    if channel.wantsEnd, !channel.endSent, channel.pendingWrite.isEmpty {
      channel.endSent = libssh2_channel_send_eof(handle) == 0
    }
    let isAtEnd = libssh2_channel_eof(handle) != 0
    if isAtEnd, libssh2_channel_wait_closed(handle) == 0 {
      notify(.channelClosed(channel.id, exit(of: channel, handle)))
      channel.isForgotten = true
      channel.state = .closing
      return finishClosing(channel, at: now)
    }
    var available: UInt = 0
    libssh2_channel_window_read_ex(handle, &available, nil)
    if !channel.isReadAnnounced, available > 0 || isAtEnd && !channel.isEndRead {
      channel.isReadAnnounced = true
      notify(.channelReadable(channel.id))
    }
  }

  /// Announces room for more, after everything that fits has gone to the socket.
  func announceWritable() {
    guard case .ready = phase else { return }
    for channel in channels where channel.isWriteBlocked && channel.pendingWrite.isEmpty {
      guard case .open = channel.state, let handle = channel.handle, hasRoom(handle) else {
        continue
      }
      channel.isWriteBlocked = false
      notify(.channelWritable(channel.id))
    }
  }

  private func sendPending(_ channel: Channel, _ handle: OpaquePointer) {
    while !channel.pendingWrite.isEmpty {
      let count = channel.pendingWrite.withUnsafeBytes { bytes in
        libssh2_channel_write_ex(
          handle, 0, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
      }
      if count == Int(LIBSSH2_ERROR_EAGAIN) { return }
      guard count > 0 else {
        pendingFailure = pendingFailure ?? callError(.connection, Int32(clamping: count))
        return
      }
      channel.pendingWrite.removeFirst(min(count, channel.pendingWrite.count))
    }
  }

  private func hasRoom(_ handle: OpaquePointer) -> Bool {
    ssh_transport_output_count(transport) < configuration.limits.output
      && libssh2_channel_window_write_ex(handle, nil) > 0
  }

  private func exit(of channel: Channel, _ handle: OpaquePointer) -> SSHExit? {
    guard channel.command != nil else { return nil }
    var name: UnsafeMutablePointer<CChar>?
    var count = 0
    libssh2_channel_get_exit_signal(handle, &name, &count, nil, nil, nil, nil)
    guard let name else {
      return .status(UInt32(bitPattern: libssh2_channel_get_exit_status(handle)))
    }
    defer { libssh2_free(transport.pointee.session, name) }
    let text = String(cString: name).unicodeScalars.prefix(32)
    return .signal(String(text.filter { $0.value > 32 && $0.value < 127 }))
  }

  // MARK: Ends

  private func beginClosing(_ channel: Channel, at now: MonotonicInstant) {
    channel.state = .closing
    channel.deadline = now + configuration.limits.closing
  }

  /// Frees the channel when the other side has heard of the end. libssh2 cannot let go of one
  /// before; past the deadline only the caller's part is over.
  private func finishClosing(_ channel: Channel, at now: MonotonicInstant) {
    guard let handle = channel.handle else { return remove(channel) }
    if libssh2_channel_close(handle) == LIBSSH2_ERROR_EAGAIN {
      if let deadline = channel.deadline, now >= deadline { forget(channel) }
      return
    }
    libssh2_channel_free(handle)
    channel.handle = nil
    if !channel.isForgotten { notify(.channelClosed(channel.id, nil)) }
    remove(channel)
  }

  private func refuse(_ channel: Channel, _ error: SSHError) {
    if !channel.isForgotten { notify(.channelRefused(channel.id, error)) }
    channel.isForgotten = true
    channel.deadline = nil
    switch channel.state {
    case .queued: remove(channel)
    case .opening: if channel.handle == nil, !isOpening(channel) { remove(channel) }
    case .starting, .open, .closing: channel.state = .closing
    }
  }

  private func forget(_ channel: Channel) {
    guard !channel.isForgotten else { return }
    channel.isForgotten = true
    channel.deadline = nil
    notify(.channelClosed(channel.id, nil))
    if case .queued = channel.state { remove(channel) }
  }

  private func isOpening(_ channel: Channel) -> Bool {
    if case .channel(let current) = opening { current === channel } else { false }
  }

  private func remove(_ channel: Channel) { channels.removeAll { $0 === channel } }

  // MARK: Requests

  private func open(
    _ type: String, _ payload: [UInt8], command: String? = nil, destination: String,
    at now: MonotonicInstant
  ) throws(SSHError) -> SSHChannelID {
    if case .lost(let error) = phase { throw error }
    guard isReady else {
      throw error(.channel, .channelClosed, "the connection is not ready for channels")
    }
    guard channels.count < configuration.limits.channels else {
      throw error(
        .channel, .channelLimit,
        "\(channels.count) channels are open, as many as this connection allows")
    }
    guard payload.count + (command?.utf8.count ?? 0) <= Self.requestLimit else {
      throw error(.channel, .channelRefused, "the path, name or command is too long")
    }
    let channel = Channel(
      id: newChannelID(), type: type, payload: payload, command: command,
      destination: destination, deadline: now + configuration.limits.channelOpening)
    channels.append(channel)
    hasQueuedWork = true
    return channel.id
  }

  private func newChannelID() -> SSHChannelID {
    lastChannelNumber &+= 1
    return SSHChannelID(number: lastChannelNumber)
  }

  private func find(_ id: SSHChannelID) throws(SSHError) -> Channel {
    guard let channel = channels.first(where: { $0.id == id && !$0.isForgotten }) else {
      if case .lost(let error) = phase { throw error }
      throw error(.channel, .channelClosed, "the channel is closed")
    }
    return channel
  }

  private func closed(_ channel: Channel) -> SSHError {
    error(.channel, .channelClosed, "the channel to \(channel.destination) takes no more data")
  }

  /// Remembers a failure of the whole connection for the next step.
  private func callFailed(_ status: Int32) -> SSHError {
    if case .lost(let error) = phase { return error }
    let failure = callError(.connection, status)
    pendingFailure = pendingFailure ?? failure
    return failure
  }

  // MARK: Refusals

  private func openingTimeout(_ channel: Channel) -> SSHError {
    error(
      .channel, .timedOut, "the server did not open the channel to \(channel.destination) in time",
      remedy: "check that what it leads to answers")
  }

  /// libssh2 gives the server's reason in words only.
  private func refusal(_ channel: Channel, _ status: Int32) -> SSHError {
    if status == LIBSSH2_ERROR_TIMEOUT { return openingTimeout(channel) }
    let words = lastLibraryText
    if words.contains("prohibited") {
      return error(
        .channel, .channelForbidden,
        "the server forbids the channel to \(channel.destination)",
        remedy: "allow it in sshd_config (AllowTcpForwarding, PermitOpen, DisableForwarding) and "
          + "in authorized_keys")
    }
    if words.contains("resource shortage") {
      return error(.channel, .channelLimit, "the server has no room for another channel")
    }
    if words.contains("connect failed") { return connectFailure(channel) }
    return error(
      .channel, .channelRefused, "the server refused the channel to \(channel.destination)",
      remedy: "use the system's ssh", anotherCarrierMayWork: true)
  }

  private func connectFailure(_ channel: Channel) -> SSHError {
    switch channel.type {
    case "session":
      error(
        .channel, .channelLimit, "the server gave no session for \(channel.destination)",
        remedy: "allow more in sshd_config (MaxSessions), or close others")
    case "direct-tcpip":
      error(
        .channel, .channelUnconnected, "the server could not connect to \(channel.destination)",
        remedy: "check that something listens there")
    default:
      error(
        .channel, .channelUnconnected, "the server could not connect to \(channel.destination)",
        remedy: "check that the socket is there, that \(configuration.user) may use it, and that "
          + "sshd_config permits it (AllowStreamLocalForwarding)")
    }
  }
}
