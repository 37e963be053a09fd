import MigrationEngine
import MigrationSession
import Platform
import SSH

/// A login by libssh2, in this loop.
final class LibraryCarrier: LoopMember, Carrier {
  /// Connections that one listening socket may bring in one turn.
  private static let acceptsPerTurn = 16
  /// How long a listener waits that could not accept, for want of descriptors.
  private static let acceptPause = Span.milliseconds(100)

  weak var owner: (any CarrierOwner)?
  private(set) var name = "libssh2"
  private(set) var isReady = false
  /// There from the TCP connection to the end.
  private(set) var connection: SSHConnection?

  private let way: SSHSettings.LibraryWay
  private var addresses: ArraySlice<SocketAddress>
  private var connecting: DescriptorWatch?
  private var connectDeadline: MonotonicInstant?
  /// What the connection waits for: copies of its descriptors, which it closes when it likes.
  private var watches: [Int32: DescriptorWatch] = [:]
  private var listeners: [Listener] = []
  private var acceptDeadline: MonotonicInstant?
  /// Streams and sockets whose channels are being opened.
  private var openings: [SSHChannelID: Opening] = [:]
  private var relays: [SSHChannelID: ChannelRelay] = [:]

  private struct Listener {
    let socket: UnixListener
    let watch: DescriptorWatch
    let forward: Forward
  }

  private enum Opening {
    case stream(Stream)
    case accepted(Descriptor, Forward)
  }

  init(_ way: SSHSettings.LibraryWay, in loop: Loop) {
    self.way = way
    addresses = way.addresses[...]
    super.init(in: loop)
  }

  func open() { connectNext(after: .notConnected) }

  func connect(_ stream: Stream, to path: String) {
    guard isReady, let connection else {
      return stream.refuse(.other(text: "the ssh connection is lost"))
    }
    do throws(SSHError) {
      openings[try connection.openUnixSocket(path, at: Self.now)] = .stream(stream)
    } catch {
      stream.refuse(.other(text: error.description))
    }
    refresh()
  }

  /// Leads a socket in the directory to each forward's socket on the other host.
  func listen(_ forwards: [Forward], in directory: PrivateDirectory) throws(SystemError) {
    guard let loop else { return }
    for forward in forwards {
      try directory.removeEntry(forward.localName)
      let socket = try UnixListener(in: directory, name: forward.localName)
      let index = listeners.count
      let watch = try DescriptorWatch(socket.descriptor, .readable, in: loop) { [weak self] _ in
        self?.accept(index)
      }
      listeners.append(Listener(socket: socket, watch: watch, forward: forward))
    }
  }

  override func closeStreams() {
    let isForeign = loop?.isForeign ?? true
    isReady = false
    connecting?.stop()
    connecting?.descriptor.close()
    connecting = nil
    for listener in listeners {
      listener.watch.stop()
      listener.socket.descriptor.close()
    }
    listeners = []
    for case .accepted(let socket, _) in openings.values { socket.close() }
    openings = [:]
    for relay in relays.values { relay.close() }
    relays = [:]
    stopWatching(except: [])
    if let connection, !isForeign {
      // The farewell goes as far as the socket takes it; nobody waits for an answer.
      connection.close(at: Self.now)
      _ = connection.step(at: Self.now)
    }
    connection?.abandon()
    connection = nil
    owner = nil
  }

  // MARK: - Connecting

  private static var now: MonotonicInstant { MonotonicInstant(nanoseconds: MonotonicClock.now) }

  private func connectNext(after failure: SystemError) {
    var failure = failure
    while let address = addresses.popFirst(), let loop {
      do throws(SystemError) {
        let made = try StreamSocket.connect(to: address)
        if made.isEstablished { return begin(on: made.descriptor) }
        connecting = try DescriptorWatch(made.descriptor, .writable, in: loop) { [weak self] _ in
          self?.finishConnecting()
        }
        connectDeadline = Self.now + way.configuration.limits.handshake
        return setDeadline()
      } catch {
        failure = error
      }
    }
    let configuration = way.configuration
    fail(
      "ssh \(configuration.user)@\(configuration.host):\(configuration.port): \(failure); "
        + "next: check the port, and that sshd runs")
  }

  private func finishConnecting() {
    guard let connecting else { return }
    self.connecting = nil
    connectDeadline = nil
    connecting.stop()
    do throws(SystemError) {
      try StreamSocket.finishConnecting(connecting.descriptor)
      begin(on: connecting.descriptor)
    } catch {
      connecting.descriptor.close()
      connectNext(after: error)
    }
  }

  private func begin(on socket: Descriptor) {
    do throws(SSHError) {
      connection = try SSHConnection(
        socket: socket, configuration: way.configuration, at: Self.now)
    } catch {
      return fail(error.description)
    }
    step()
  }

  // MARK: - Turns

  override func deadlineReached() {
    if let deadline = connectDeadline, Self.now >= deadline, let connecting {
      self.connecting = nil
      connectDeadline = nil
      connecting.stop()
      connecting.descriptor.close()
      return connectNext(after: .timedOut)
    }
    if let deadline = acceptDeadline, Self.now >= deadline {
      acceptDeadline = nil
      for listener in listeners { listener.watch.change(.readable) }
    }
    step()
  }

  override func continuePostponed() { step() }

  private func step() {
    guard let connection else { return setDeadline() }
    let notices = connection.step(at: Self.now)
    // Before anything else makes a descriptor, which could get the number of one that is closed now.
    refresh()
    var bulk: [ChannelRelay] = []
    for notice in notices {
      guard self.connection === connection else { return }
      if case .channelReadable(let id) = notice, let relay = relays[id], relay.isBulk {
        bulk.append(relay)
      } else {
        take(notice)
      }
    }
    for relay in bulk { relay.channelBecameReadable() }
    removeDoneRelays()
    refresh()
  }

  private func take(_ notice: SSHNotice) {
    switch notice {
    case .hostKeyVerified(let key):
      let place = key.line.map { " (\($0.file), line \($0.number))" } ?? ""
      owner?.carrierSaid("host key \(key.type) \(key.fingerprint)\(place)", isWarning: false)
    case .authenticated(let attempt):
      let library = "libssh2 \(way.configuration.library.version)"
      name = attempt.map { "\(library), key \($0.source)" } ?? library
      isReady = true
      owner?.carrierOpened(self)
    case .channelOpened(let id): opened(id)
    case .channelRefused(let id, let error): refused(id, error)
    case .channelReadable(let id): relays[id]?.channelBecameReadable()
    case .channelWritable(let id): relays[id]?.channelBecameWritable()
    case .channelClosed(let id, _):
      if let relay = relays[id], relay.channelClosed() { drop(relay) }
    case .failed(let error):
      for relay in relays.values { relay.channelBecameReadable() }
      fail(error.description)
    case .closed: fail("the connection is closed")
    }
  }

  private func fail(_ text: String) {
    guard let owner else { return }
    let streams = openings.values.compactMap { opening in
      if case .stream(let stream) = opening { stream } else { nil }
    }
    close()
    for stream in streams { stream.refuse(.other(text: text)) }
    owner.carrierFailed(self, text)
  }

  /// Brings watches, deadline and postponed turns in line with what the connection wants.
  private func refresh() {
    guard let connection, let loop else { return }
    let interests = connection.interests
    stopWatching(except: Set(interests.map(\.descriptor)))
    for interest in interests {
      var wanted: Interest = interest.wantsRead ? .readable : []
      if interest.wantsWrite { wanted.insert(.writable) }
      if let watch = watches[interest.descriptor] {
        watch.change(wanted)
        continue
      }
      guard let copy = try? Descriptor.duplicate(interest.descriptor) else { continue }
      watches[interest.descriptor] = try? DescriptorWatch(copy, wanted, in: loop) {
        [weak self] _ in self?.step()
      }
    }
    if connection.hasPendingWork { loop.postpone(self) }
    setDeadline()
  }

  private func stopWatching(except kept: Set<Int32>) {
    for (number, watch) in watches where !kept.contains(number) {
      watch.stop()
      watch.descriptor.close()
      watches[number] = nil
    }
  }

  private func setDeadline() {
    let all = [connection?.nextDeadline, connectDeadline, acceptDeadline].compactMap(\.self)
    loop?.setDeadline(self, all.min()?.nanoseconds)
  }

  // MARK: - Channels

  private func opened(_ id: SSHChannelID) {
    guard let loop, let opening = openings.removeValue(forKey: id) else { return }
    do throws(SystemError) {
      switch opening {
      case .stream(let stream):
        guard stream.isAwaited else {
          connection?.close(id, at: Self.now)
          return
        }
        let (ours, theirs) = try StreamSocket.pair()
        relays[id] = try ChannelRelay(ours, id, isBulk: false, carrier: self, loop: loop)
        stream.deliver(theirs)
      case .accepted(let socket, _):
        relays[id] = try ChannelRelay(socket, id, isBulk: true, carrier: self, loop: loop)
      }
    } catch {
      connection?.close(id, at: Self.now)
      switch opening {
      case .stream(let stream): stream.refuse(OpenFailure(error))
      case .accepted(let socket, _): socket.close()
      }
    }
  }

  private func refused(_ id: SSHChannelID, _ error: SSHError) {
    switch openings.removeValue(forKey: id) {
    case .stream(let stream): stream.refuse(.other(text: error.description))
    case .accepted(let socket, let forward):
      StreamSocket.shutDown(socket)
      socket.close()
      owner?.carrierSaid("\(forward.purpose.words): \(error)", isWarning: true)
    case nil: break
    }
  }

  /// A relay has moved bytes by itself, which may have left the connection something to do.
  func relayMoved(_ relay: ChannelRelay) {
    if relay.isDone { drop(relay) }
    refresh()
  }

  private func removeDoneRelays() {
    for relay in relays.values where relay.isDone { drop(relay) }
  }

  private func drop(_ relay: ChannelRelay) {
    relays[relay.channel] = nil
    relay.close()
  }

  // MARK: - Listeners

  private func accept(_ index: Int) {
    guard listeners.indices.contains(index) else { return }
    let listener = listeners[index]
    do throws(SystemError) {
      for _ in 0..<Self.acceptsPerTurn {
        guard let accepted = try listener.socket.accept() else { break }
        accept(accepted, listener.forward)
      }
    } catch {
      listener.watch.change([])
      acceptDeadline = Self.now + Self.acceptPause
    }
    refresh()
  }

  private func accept(_ accepted: AcceptedConnection, _ forward: Forward) {
    guard accepted.peer.isOurs else {
      accepted.descriptor.close()
      let user = accepted.peer.userIdentifier
      owner?.carrierSaid(
        "\(forward.purpose.words): a process of user \(user) was turned away", isWarning: true)
      return
    }
    guard let connection else { return accepted.descriptor.close() }
    do throws(SSHError) {
      openings[try connection.openUnixSocket(forward.path, at: Self.now)] =
        .accepted(accepted.descriptor, forward)
      owner?.carrierSaid("\(forward.purpose.words): a stream to \(forward.path)", isWarning: false)
    } catch {
      accepted.descriptor.close()
      owner?.carrierSaid("\(forward.purpose.words): \(error)", isWarning: true)
    }
  }
}
