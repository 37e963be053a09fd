import MigrationSession
import Platform

/// One connection of a member, from its first attempt to its end.
///
/// What it is told to write goes to the socket at once; only what the socket does not take waits
/// here. Reading is bounded a turn, and an answer of the member goes out in the same turn.
final class Stream: Watcher {
  /// Bytes that may wait for a peer that does not read.
  static let outputLimit = 32 << 20

  private enum State {
    /// A tunnel is to bring the connection.
    case awaited
    case connecting
    case open
    /// The peer takes nothing more; what it said before may still be there to read.
    case mute
    case closed
  }

  /// Which of its member's streams this is.
  let key: Int
  private weak var member: LoopMember?
  private weak var loop: Loop?
  private var state = State.connecting
  private var descriptor: Descriptor
  /// A connection of the host program's is closed, never shut down.
  private let isAdopted: Bool
  /// Its other end is a tunnel's, whatever the kernel says about the peer.
  private let isTunnelled: Bool
  private var reasonOfEarlyEnd: (() -> String)?
  /// Addresses to try when this one does not answer.
  private var alternatives: ArraySlice<SocketAddress>

  private var output: [UInt8] = []
  private var sent = 0
  private var isWatchedForWriting = false
  /// A descriptor that travels with the byte at that index of `output`.
  private var passenger: (descriptor: Descriptor, index: Int)?

  /// Begins to connect to the first address that takes the attempt.
  init(
    to addresses: [SocketAddress], key: Int, member: LoopMember, loop: Loop
  ) throws(SystemError) {
    let (connection, rest) = try Self.connect(addresses[...])
    descriptor = connection.descriptor
    alternatives = rest
    isAdopted = false
    isTunnelled = false
    self.key = key
    self.member = member
    self.loop = loop
    super.init()
    try start(connection.isEstablished)
  }

  /// Takes a duplicate of a connection of the host program, which keeps its own descriptor.
  init(
    adopted descriptor: Descriptor, key: Int, member: LoopMember, loop: Loop
  ) throws(SystemError) {
    self.descriptor = descriptor
    alternatives = []
    isAdopted = true
    isTunnelled = false
    self.key = key
    self.member = member
    self.loop = loop
    super.init()
    try start(true)
  }

  /// Waits for a tunnel to bring the connection by `deliver`, or to say by `refuse` why there is none.
  init(awaitedBy member: LoopMember, key: Int, loop: Loop) {
    state = .awaited
    descriptor = Descriptor(owning: -1)
    alternatives = []
    isAdopted = false
    isTunnelled = true
    self.key = key
    self.member = member
    self.loop = loop
    super.init()
  }

  /// Whether the connection is made.
  var isOpen: Bool {
    switch state {
    case .open, .mute: true
    case .awaited, .connecting, .closed: false
    }
  }

  /// Whether a tunnel is to bring the connection still.
  var isAwaited: Bool { if case .awaited = state { true } else { false } }

  /// Takes the connection that was awaited.
  ///
  /// - Parameter reason: why the connection may end before a byte has come; asked where it does.
  func deliver(_ descriptor: Descriptor, earlyEnd reason: (() -> String)? = nil) {
    guard isAwaited else { return }
    self.descriptor = descriptor
    reasonOfEarlyEnd = reason
    do throws(SystemError) {
      try start(true)
    } catch {
      member?.streamFailed(self, OpenFailure(error))
      return
    }
    member?.streamOpened(self)
  }

  /// There is no connection, and why.
  func refuse(_ failure: OpenFailure) {
    guard isAwaited else { return }
    state = .closed
    member?.streamFailed(self, failure)
  }

  /// Bytes that wait for the peer.
  var waitingBytes: Int { output.count - sent }

  /// Whether a command of any allowed size would be taken now, with a descriptor or without.
  var hasRoom: Bool { passenger == nil && waitingBytes <= Self.outputLimit / 2 }

  /// The process at the other end, where the kernel names one.
  var peer: SocketPeer? { isAdopted || isTunnelled ? nil : SocketPeer(of: descriptor) }

  /// Sends, or keeps what does not fit; false when too much waits already and nothing was taken.
  ///
  /// What a dead peer does not take is dropped: its end is reported when all it said is read.
  func write(_ bytes: [UInt8], passing passed: Descriptor? = nil) -> Bool {
    guard case .open = state else { return true }
    guard waitingBytes + bytes.count <= Self.outputLimit, passed == nil || passenger == nil else {
      return false
    }
    if waitingBytes == 0, passed == nil {
      let count = bytes.withUnsafeBytes { send($0, nil) }
      guard case .open = state, count < bytes.count else { return true }
      output.append(contentsOf: bytes[count...])
    } else {
      if let passed { passenger = (passed, output.count) }
      output.append(contentsOf: bytes)
      flush()
    }
    watch()
    return true
  }

  /// Closes it; nothing more is heard from it.
  func close() {
    guard state != .closed else { return }
    let wasAlive = isOpen
    state = .closed
    reasonOfEarlyEnd = nil
    output = []
    sent = 0
    passenger = nil
    loop?.unwatch(self, descriptor)
    if wasAlive, !isAdopted, loop?.isForeign == false { StreamSocket.shutDown(descriptor) }
    descriptor.close()
  }

  override func becameReady(_ flags: ReadyFlags) {
    switch state {
    case .connecting: finishConnecting()
    case .open, .mute:
      if flags.contains(.writable), case .open = state {
        flush()
        watch()
      }
      if !flags.isDisjoint(with: [.readable, .hungUp, .failed]) { receive() }
    case .awaited, .closed: break
    }
  }

  // MARK: - Connecting

  private func start(_ isEstablished: Bool) throws(SystemError) {
    state = isEstablished ? .open : .connecting
    guard let loop else { return }
    do throws(SystemError) {
      try loop.watch(self, descriptor, isEstablished ? .readable : .writable)
    } catch {
      close()
      throw error
    }
  }

  private func finishConnecting() {
    do throws(SystemError) {
      try StreamSocket.finishConnecting(descriptor)
      state = .open
      try loop?.change(self, descriptor, .readable)
    } catch {
      tryNextAddress(after: error)
      return
    }
    member?.streamOpened(self)
  }

  private func tryNextAddress(after error: SystemError) {
    loop?.unwatch(self, descriptor)
    descriptor.close()
    do throws(SystemError) {
      guard !alternatives.isEmpty else { throw error }
      let (connection, rest) = try Self.connect(alternatives)
      descriptor = connection.descriptor
      alternatives = rest
      try start(connection.isEstablished)
    } catch {
      state = .closed
      member?.streamFailed(self, OpenFailure(error))
      return
    }
    if case .open = state { member?.streamOpened(self) }
  }

  private static func connect(
    _ addresses: ArraySlice<SocketAddress>
  ) throws(SystemError) -> (Connection, rest: ArraySlice<SocketAddress>) {
    var failure = SystemError(errno: 0, call: .connect)
    var rest = addresses
    while let address = rest.popFirst() {
      do throws(SystemError) {
        return (try StreamSocket.connect(to: address), rest)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  // MARK: - Transfer

  private func receive() {
    guard let loop else { return }
    let goesOn = loop.withBuffer { buffer in
      do throws(SystemError) {
        switch try StreamSocket.receive(descriptor, into: buffer) {
        case .moved(let count):
          reasonOfEarlyEnd = nil
          member?.streamReceived(UnsafeRawBufferPointer(rebasing: buffer[..<count]), on: self)
          return true
        case .wouldBlock: return true
        case .endOfStream: return false
        }
      } catch {
        return false
      }
    }
    guard !goesOn, state != .closed else { return }
    let reason = reasonOfEarlyEnd?()
    close()
    if let reason {
      member?.streamFailed(self, .other(text: reason))
    } else {
      member?.streamEnded(self)
    }
  }

  private func flush() {
    while case .open = state, waitingBytes > 0 {
      let end = passenger.map { $0.index > sent ? $0.index : output.count } ?? output.count
      let passed = passenger.flatMap { $0.index == sent ? $0.descriptor : nil }
      let count = output[sent..<end].withUnsafeBytes { send($0, passed) }
      if count == 0 { break }
      if passed != nil { passenger = nil }
      sent += count
    }
    // Moving what is left costs as much as what has gone: amortised, nothing is moved twice.
    if sent == output.count {
      output.removeAll(keepingCapacity: output.capacity <= 4096)
      sent = 0
    } else if sent > output.count / 2 {
      output.removeFirst(sent)
      passenger?.index -= sent
      sent = 0
    }
  }

  /// The number of bytes that the socket took.
  private func send(_ bytes: UnsafeRawBufferPointer, _ passed: Descriptor?) -> Int {
    do throws(SystemError) {
      let transfer =
        if let passed {
          try StreamSocket.send(bytes, passing: passed.number, to: descriptor)
        } else {
          try StreamSocket.send(bytes, to: descriptor)
        }
      if case .moved(let count) = transfer { return count }
      return 0
    } catch {
      state = .mute
      output = []
      sent = 0
      passenger = nil
      return 0
    }
  }

  /// Asks for writability exactly while something waits.
  private func watch() {
    let wanted = waitingBytes > 0
    guard wanted != isWatchedForWriting, isOpen else { return }
    let interest: Interest = wanted ? [.readable, .writable] : .readable
    if (try? loop?.change(self, descriptor, interest)) != nil { isWatchedForWriting = wanted }
  }
}
