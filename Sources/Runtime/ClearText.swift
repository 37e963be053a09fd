import MigrationEngine
import Platform

/// Finds out whether a guest's memory leaves this machine unprotected.
enum ClearText {
  /// The other host that a plain tcp uri names; nil where the stream stays here, is encrypted by
  /// QEMU itself, or goes another way.
  static func host(of options: MigrationOptions) -> String? {
    guard let host = host(ofURI: options.uri), !isLocal(host) else { return nil }
    let isEncrypted = options.parameters.contains { name, value in
      guard name == "tls-creds", case .string(let credentials) = value else { return false }
      return !credentials.isEmpty
    }
    return isEncrypted ? nil : host
  }

  private static func host(ofURI uri: String) -> String? {
    guard uri.hasPrefix("tcp:"), let end = uri.lastIndex(of: ":") else { return nil }
    let start = uri.index(uri.startIndex, offsetBy: 4)
    guard start < end else { return nil }
    var host = uri[start..<end]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return String(host)
  }

  private static func isLocal(_ host: String) -> Bool {
    // QEMU looks names up by itself; only this one says by itself where it leads.
    SocketAddress(numericHost: host, port: 0)?.isLocal ?? (host == "localhost")
  }
}
