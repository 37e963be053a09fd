import MigrationSession
import Platform

/// Why an endpoint cannot be used at all.
public enum RouteError: Error, Equatable, Sendable, CustomStringConvertible {
  case unresolved(host: String, ResolutionError)
  case unusable(SystemError)
  /// The ssh command, or what it needs on this machine, is not in order.
  case tunnel(String)

  public var description: String {
    switch self {
    case .unresolved(let host, let error): "host '\(host)' could not be looked up: \(error)"
    case .unusable(let error): "\(error)"
    case .tunnel(let text): text
    }
  }
}

/// The way to an endpoint, with everything that had to be looked up.
enum Route {
  case addresses([SocketAddress])
  /// A descriptor of the host program, duplicated so that its number cannot change hands before the
  /// stream is opened.
  case inherited(Descriptor)
  /// A unix socket of another host.
  case tunnelled(Tunnel, path: String)
  /// It was inherited, and has been used.
  case spent

  /// Looks names up, which may block as `SocketAddress.resolve` says, and for an ssh address reads what
  /// ssh's configuration says of the host.
  ///
  /// - Parameter forwards: what else an ssh address is to lead to.
  init(
    to endpoint: Endpoint, in loop: Loop, forwards: [Forward] = []
  ) throws(RouteError) {
    switch endpoint {
    case .ssh(_, _, _, let path):
      self = .tunnelled(
        try Tunnel(to: endpoint, in: loop, monitor: path, forwards: forwards), path: path)
    case .unix(let path):
      self = .addresses([
        try Self.usable { () throws(SystemError) in try SocketAddress(unixPath: path) }
      ])
    case .descriptor(let number):
      self = .inherited(
        try Self.usable { () throws(SystemError) in try StreamSocket.adopt(number) })
    case .tcp(let host, let port):
      if let address = SocketAddress(numericHost: host, port: port) {
        self = .addresses([address])
        return
      }
      do throws(ResolutionError) {
        self = .addresses(try SocketAddress.resolve(host: host, port: port))
      } catch {
        throw .unresolved(host: host, error)
      }
    }
  }

  /// Opens it; an inherited descriptor can be opened once. A tunnel's stream is opened later.
  mutating func open(
    key: Int, member: LoopMember, loop: Loop
  ) throws(OpenFailure) -> Stream {
    do throws(SystemError) {
      switch self {
      case .addresses(let addresses):
        return try Stream(to: addresses, key: key, member: member, loop: loop)
      case .inherited(let descriptor):
        self = .spent
        return try Stream(adopted: descriptor, key: key, member: member, loop: loop)
      case .tunnelled(let tunnel, let path):
        let stream = Stream(awaitedBy: member, key: key, loop: loop)
        tunnel.connect(stream, to: path)
        return stream
      case .spent:
        throw .notConnected
      }
    } catch {
      throw OpenFailure(error)
    }
  }

  var tunnel: Tunnel? { if case .tunnelled(let tunnel, _) = self { tunnel } else { nil } }

  /// Whether it is a tunnel that is being opened for the first time.
  var isOpening: Bool { tunnel?.isOpening ?? false }

  /// Lets go of it; nothing can be opened any more.
  mutating func close() {
    tunnel?.close()
    self = .spent
  }

  private static func usable<Value>(
    _ body: () throws(SystemError) -> Value
  ) throws(RouteError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch {
      throw .unusable(error)
    }
  }
}

extension OpenFailure {
  /// What a failed connection means for a session.
  init(_ error: SystemError) {
    switch error.refusal {
    case .queueFull: self = .queueFull
    case .refused: self = .refused
    case .missing: self = .missing
    case .denied, .other: self = .other(text: error.description)
    }
  }
}
