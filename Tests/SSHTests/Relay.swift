import Glibc
import Platform

/// Stands between a connection and a server, in the same thread, and spoils what it carries.
final class Relay {
  enum Fault {
    /// Carries on as it is, in pieces of at most so many bytes.
    case pieces(Int)
    /// Says nothing more after so many bytes from the server.
    case silence(after: Int)
    /// Closes both sides after so many bytes from the server, or from the client.
    case cut(afterServerBytes: Int)
    case cutAfterClientBytes(Int)
    /// Changes bytes of the server, with a chance of one in so many for each.
    case noise(oneIn: UInt64, seed: UInt64)
  }

  private(set) var serverBytes: [UInt8] = []
  private(set) var serverByteCount = 0
  private(set) var clientByteCount = 0
  private let fault: Fault
  private var random: SplitMix64
  private let server: Descriptor
  private let inner: Descriptor
  private var outer: Descriptor?
  private var toClient: [UInt8] = []
  private var toServer: [UInt8] = []
  private var isCut = false

  init(to port: UInt16, _ fault: Fault) throws {
    self.fault = fault
    if case .noise(_, let seed) = fault {
      random = SplitMix64(seed: seed)
    } else {
      random = SplitMix64(seed: 0)
    }
    server = try connect(to: port)
    (inner, outer) = try socketPair()
  }

  func clientEnd() throws -> Descriptor {
    guard let outer else { throw TestFailure("the relay's end was given away") }
    self.outer = nil
    return outer
  }

  var entries: [pollfd] {
    guard !isCut else { return [] }
    return [
      pollfd(fd: server.number, events: events(input: toClient, output: toServer), revents: 0),
      pollfd(fd: inner.number, events: events(input: toServer, output: toClient), revents: 0),
    ]
  }

  /// Carries what is there.
  func carry() {
    guard !isCut else { return }
    let pieces: Int = if case .pieces(let count) = fault { count } else { 65_536 }
    var ended = false
    if toClient.isEmpty {
      if case .silence(let count) = fault, serverByteCount >= count {
        drop()
      } else {
        ended = receive(server, &toClient, limit: serverLimit(pieces)) || ended
        serverByteCount += toClient.count
        serverBytes += toClient
        spoil()
      }
    }
    if toServer.isEmpty {
      let before = toServer.count
      ended = receive(inner, &toServer, limit: clientLimit(pieces)) || ended
      clientByteCount += toServer.count - before
    }
    send(&toClient, to: inner)
    send(&toServer, to: server)
    let reached: Bool =
      switch fault {
      case .cut(let count): serverByteCount >= count
      case .cutAfterClientBytes(let count): clientByteCount >= count
      case .pieces, .silence, .noise: false
      }
    if ended || reached { cut() }
  }

  /// Closes both sides.
  func cut() {
    isCut = true
    server.close()
    inner.close()
  }

  private func serverLimit(_ pieces: Int) -> Int {
    switch fault {
    case .silence(let count), .cut(let count): min(pieces, max(0, count - serverByteCount))
    default: pieces
    }
  }

  private func clientLimit(_ pieces: Int) -> Int {
    if case .cutAfterClientBytes(let count) = fault {
      min(pieces, max(0, count - clientByteCount))
    } else {
      pieces
    }
  }

  private func spoil() {
    guard case .noise(let chance, _) = fault else { return }
    for index in toClient.indices where random.next() % chance == 0 {
      toClient[index] ^= UInt8(truncatingIfNeeded: 1 << (random.next() % 8))
    }
  }

  private func drop() {
    var nothing: [UInt8] = []
    _ = receive(server, &nothing, limit: 65_536)
  }

  private func events(input: [UInt8], output: [UInt8]) -> Int16 {
    (input.isEmpty ? Int16(POLLIN) : 0) | (output.isEmpty ? 0 : Int16(POLLOUT))
  }

  /// True at the end of the stream.
  private func receive(_ source: Descriptor, _ bytes: inout [UInt8], limit: Int) -> Bool {
    guard limit > 0 else { return false }
    var room = [UInt8](repeating: 0, count: limit)
    let count = recv(source.number, &room, limit, Int32(MSG_DONTWAIT))
    if count > 0 { bytes += room.prefix(count) }
    return count == 0 || count < 0 && errno != EAGAIN
  }

  private func send(_ bytes: inout [UInt8], to destination: Descriptor) {
    guard !bytes.isEmpty else { return }
    let count = Glibc.send(
      destination.number, bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
    if count > 0 { bytes.removeFirst(count) }
  }
}

/// Two ends of one connection, not blocking.
func socketPair() throws -> (Descriptor, Descriptor) {
  var ends: [Int32] = [-1, -1]
  let kind =
    Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
  guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw TestFailure("no socket pair") }
  return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
}
