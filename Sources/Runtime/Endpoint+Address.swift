import MigrationSession
import Platform

extension Endpoint {
  /// Reads an address: `unix:/path`, `/path`, `tcp:host:port` or `fd:N`.
  public init(address: String) throws(AddressError) {
    if address.hasPrefix("/") {
      self = try Self.unix(checked: address)
    } else if let path = address.rest(after: "unix:") {
      self = try Self.unix(checked: path)
    } else if let rest = address.rest(after: "tcp:") {
      self = try Self.tcp(rest, of: address)
    } else if let number = address.rest(after: "fd:") {
      guard let value = Int32(number), value >= 0 else {
        throw AddressError("'\(address)' names no descriptor")
      }
      self = .descriptor(value)
    } else {
      throw AddressError("'\(address)' is no address: unix:/path, /path, tcp:host:port or fd:N")
    }
  }

  private static func unix(checked path: String) throws(AddressError) -> Endpoint {
    do throws(SystemError) {
      _ = try SocketAddress(unixPath: path)
    } catch {
      throw AddressError(
        path.isEmpty
          ? "the socket's path is empty"
          : "the socket's path is longer than \(SocketAddress.unixPathLimit) bytes: \(path)")
    }
    return .unix(path: path)
  }

  private static func tcp(_ rest: String, of address: String) throws(AddressError) -> Endpoint {
    guard let colon = rest.lastIndex(of: ":"),
      let port = UInt16(rest[rest.index(after: colon)...]), port > 0
    else { throw AddressError("'\(address)' has no port") }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty else { throw AddressError("'\(address)' has no host") }
    return .tcp(host: String(host), port: port)
  }
}

extension String {
  fileprivate func rest(after prefix: String) -> String? {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
  }
}
