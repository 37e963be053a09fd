import Platform
import SSH

/// Carries bytes between a socket here and a channel, both ways.
///
/// What one side does not take is not read from the other: at most one piece a direction waits here.
final class ChannelRelay: Watcher {
  let channel: SSHChannelID
  override var isBulk: Bool { isForBulk }

  private let isForBulk: Bool
  private let socket: Descriptor
  private weak var carrier: LibraryCarrier?
  private weak var loop: Loop?
  private var interest: Interest?
  private var toChannel = Piece()
  private var toSocket = Piece()
  /// The socket says nothing more; or it is gone altogether.
  private var socketHasEnded = false
  private var socketIsGone = false
  private var channelHasEnded = false
  /// The channel does not exist any more: what is left goes to the socket.
  private var channelIsGone = false

  private struct Piece {
    var bytes: [UInt8] = []
    var sent = 0
    var isEmpty: Bool { bytes.isEmpty }

    mutating func keep(_ rest: UnsafeRawBufferPointer) {
      bytes = Array(rest)
      sent = 0
    }

    mutating func take(_ count: Int) {
      sent += count
      guard sent >= bytes.count else { return }
      bytes.removeAll(keepingCapacity: true)
      sent = 0
    }
  }

  init(
    _ socket: Descriptor, _ channel: SSHChannelID, isBulk: Bool, carrier: LibraryCarrier,
    loop: Loop
  ) throws(SystemError) {
    self.socket = socket
    self.channel = channel
    isForBulk = isBulk
    self.carrier = carrier
    self.loop = loop
    super.init()
    try loop.watch(self, socket, .readable)
    interest = .readable
  }

  /// Lets go of the socket.
  func close() {
    loop?.unwatch(self, socket)
    if loop?.isForeign == false { StreamSocket.shutDown(socket) }
    socket.close()
    socketIsGone = true
  }

  override func becameReady(_ flags: ReadyFlags) {
    if flags.contains(.writable) { pull() }
    if !flags.isDisjoint(with: [.readable, .hungUp, .failed]) { push() }
    carrier?.relayMoved(self)
  }

  /// The channel takes more.
  func channelBecameWritable() {
    sendToChannel()
    push()
  }

  /// The channel has something to read, or has ended.
  func channelBecameReadable() { pull() }

  /// The channel is gone; true when nothing is left to do.
  func channelClosed() -> Bool {
    channelIsGone = true
    channelHasEnded = true
    sendToSocket()
    watch()
    return toSocket.isEmpty || socketIsGone
  }

  /// Whether the channel is gone and the socket has everything.
  var isDone: Bool { channelIsGone && (toSocket.isEmpty || socketIsGone) }

  // MARK: - From the socket to the channel

  private func push() {
    guard let loop, let connection = carrier?.connection else { return }
    while toChannel.isEmpty, !socketHasEnded, !channelIsGone {
      let share = isForBulk ? loop.takeBulkBytes(Loop.bytesPerTurn) : Loop.bytesPerTurn
      if share == 0 { break }
      let goesOn = loop.withBuffer { buffer in
        let room = UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(share))
        switch (try? StreamSocket.receive(socket, into: room)) ?? .endOfStream {
        case .moved(let count):
          let bytes = UnsafeRawBufferPointer(rebasing: room[..<count])
          let taken = (try? connection.write(bytes, to: channel)) ?? count
          if taken < count { toChannel.keep(UnsafeRawBufferPointer(rebasing: bytes[taken...])) }
          return count == room.count
        case .wouldBlock: return false
        case .endOfStream:
          socketHasEnded = true
          return false
        }
      }
      if !goesOn { break }
    }
    finishChannel()
    watch()
  }

  private func sendToChannel() {
    guard !toChannel.isEmpty, let connection = carrier?.connection else { return }
    let rest = toChannel.bytes[toChannel.sent...]
    let count = rest.withUnsafeBytes { bytes in
      (try? connection.write(bytes, to: channel)) ?? bytes.count
    }
    toChannel.take(count)
    finishChannel()
    watch()
  }

  private func finishChannel() {
    guard socketHasEnded, toChannel.isEmpty, !channelIsGone else { return }
    try? carrier?.connection?.finishWriting(channel)
  }

  // MARK: - From the channel to the socket

  private func pull() {
    sendToSocket()
    guard let loop, let connection = carrier?.connection else { return }
    while toSocket.isEmpty, !channelHasEnded {
      let goesOn = loop.withBuffer { buffer in
        switch (try? connection.read(channel, into: buffer)) ?? .endOfFile {
        case .bytes(let count):
          send(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
          return true
        case .wouldBlock: return false
        case .endOfFile:
          channelHasEnded = true
          return false
        }
      }
      if !goesOn { break }
    }
    if channelHasEnded, toSocket.isEmpty { StreamSocket.endSending(socket) }
    watch()
  }

  private func send(_ bytes: UnsafeRawBufferPointer) {
    // What a socket that is gone does not take is dropped.
    guard !socketIsGone else { return }
    var sent = 0
    while sent < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[sent...])
      guard let transfer = try? StreamSocket.send(rest, to: socket) else {
        socketIsGone = true
        return
      }
      guard case .moved(let count) = transfer else { return toSocket.keep(rest) }
      sent += count
    }
  }

  private func sendToSocket() {
    guard !toSocket.isEmpty else { return }
    let piece = toSocket
    toSocket = Piece()
    piece.bytes[piece.sent...].withUnsafeBytes { send($0) }
    if channelHasEnded, toSocket.isEmpty { StreamSocket.endSending(socket) }
  }

  /// Waits for what can go on; a socket of which nothing is wanted is not watched at all, since its
  /// hang-up would be reported for ever.
  private func watch() {
    guard let loop, socket.isOpen else { return }
    var wanted: Interest = []
    if toChannel.isEmpty, !socketHasEnded { wanted.insert(.readable) }
    if !toSocket.isEmpty, !socketIsGone { wanted.insert(.writable) }
    let next: Interest? = wanted.isEmpty ? nil : wanted
    guard next != interest else { return }
    switch (interest, next) {
    case (_, nil): loop.unwatch(self, socket)
    case (nil, .some(let next)): if (try? loop.watch(self, socket, next)) == nil { return close() }
    case (.some, .some(let next)): try? loop.change(self, socket, next)
    }
    interest = next
  }
}
