import CSSHTransport

extension SSHConnection {
  /// Asks for host keys of the types that are known, then for the others, and leaves out ciphers
  /// and digests that no server of today needs.
  func preferAlgorithms() {
    let known = knownHosts?.keyTypes ?? []
    let others = [
      "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
      "ecdsa-sha2-nistp521", "ssh-rsa",
    ].filter { !known.contains($0) }
    prefer([LIBSSH2_METHOD_HOSTKEY], (known + others).flatMap(signatureAlgorithms))
    prefer(
      [LIBSSH2_METHOD_CRYPT_CS, LIBSSH2_METHOD_CRYPT_SC],
      [
        "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr",
        "aes256-ctr",
      ])
    prefer(
      [LIBSSH2_METHOD_MAC_CS, LIBSSH2_METHOD_MAC_SC],
      [
        "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256",
        "hmac-sha2-512",
      ])
  }

  /// Compares the key that the server proved to hold with what is known.
  func verifyHostKey() -> Result<SSHHostKey, SSHError> {
    var count = 0
    var type: Int32 = 0
    guard
      let bytes = libssh2_session_hostkey(transport.pointee.session, &count, &type),
      let key = PublicKey(blob: Array(UnsafeRawBufferPointer(start: bytes, count: count)))
    else {
      return .failure(
        error(.hostKey, .protocolFailure, "the server showed no host key that can be read"))
    }
    switch configuration.hostKeyRule {
    case .pinned(let fingerprint): return verify(key, pinned: fingerprint)
    case .knownHosts(_, let alias):
      guard let knownHosts else { return .failure(unknown(key, alias: alias)) }
      return verify(key, knownHosts, alias: alias)
    }
  }

  /// Names that this libssh2 does not have are left out here: it takes them out of a list by copying
  /// overlapping memory. Without any that it has, its own list stays in place.
  private func prefer(_ methods: [Int32], _ names: [String]) {
    let session = transport.pointee.session
    for method in methods {
      let supported = supportedNames(method)
      let common = names.filter { supported.contains($0) }
      guard !common.isEmpty else { continue }
      libssh2_session_method_pref(session, method, common.joined(separator: ","))
    }
  }

  private func supportedNames(_ method: Int32) -> Set<String> {
    let session = transport.pointee.session
    var list: UnsafeMutablePointer<UnsafePointer<CChar>?>?
    let count = libssh2_session_supported_algs(session, method, &list)
    guard count > 0, let list else { return [] }
    defer { libssh2_free(session, list) }
    return Set((0..<Int(count)).compactMap { list[$0].map { String(cString: $0) } })
  }

  private func signatureAlgorithms(of type: String) -> [String] {
    guard type == "ssh-rsa", configuration.library.canUseRSASHA2 else { return [type] }
    return ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]
  }

  private func verify(
    _ key: PublicKey, pinned fingerprint: String
  ) -> Result<SSHHostKey, SSHError> {
    if key.fingerprint == fingerprint { return .success(shown(key)) }
    return .failure(
      refusal(
        .hostKeyNotPinned, key,
        "the server's \(key.shortType) key \(key.fingerprint) is not the pinned \(fingerprint)",
        remedy: "compare with the server's console (ssh-keygen -l -f …); a server with several "
          + "keys shows its ED25519 key first"))
  }

  private func verify(
    _ key: PublicKey, _ knownHosts: KnownHosts, alias: String?
  ) -> Result<SSHHostKey, SSHError> {
    switch knownHosts.check(key) {
    case .known(let entry): return .success(shown(key, at: entry))
    case .revoked(let entry):
      return .failure(
        refusal(
          .hostKeyRevoked, key,
          "the server's \(key.shortType) key \(key.fingerprint) is revoked by \(place(entry))",
          remedy: "do not use this server before its administrator has replaced the key",
          at: entry))
    case .changed(let entries):
      return .failure(changed(key, entries))
    case .otherType(let entries):
      return .failure(otherType(key, entries))
    case .unknown:
      return .failure(unknown(key, alias: alias))
    }
  }

  private func changed(_ key: PublicKey, _ entries: [KnownHostEntry]) -> SSHError {
    let known = entries.prefix(4).map { "\(place($0)) (\($0.key.fingerprint))" }
    return refusal(
      .hostKeyChanged, key,
      "the server's \(key.shortType) key \(key.fingerprint) is not the one in "
        + known.joined(separator: ", "),
      remedy: "somebody may stand in between; if the server was set up anew, replace that line",
      at: entries.first)
  }

  private func otherType(_ key: PublicKey, _ entries: [KnownHostEntry]) -> SSHError {
    let known = entries.prefix(4).map { "\($0.key.shortType) in \(place($0))" }
    let onlyRSA = entries.allSatisfy(\.key.isRSA) && !configuration.library.canUseRSASHA2
    let reason: SSHError.Reason = onlyRSA ? .hostKeyUnusable : .hostKeyOfOtherType
    let library =
      onlyRSA ? "; libssh2 \(configuration.library.version) cannot check RSA host keys" : ""
    return refusal(
      reason, key,
      "the server showed its \(key.shortType) key \(key.fingerprint), and known is "
        + known.joined(separator: ", ") + library,
      remedy: "add the \(key.shortType) key after comparing it with the server's console"
        + (onlyRSA ? ", or use the system's ssh" : ""),
      at: entries.first, anotherCarrierMayWork: true)
  }

  private func unknown(_ key: PublicKey, alias: String?) -> SSHError {
    let name = alias.map { "\($0) (alias of \(configuration.host))" } ?? configuration.host
    var text = "no known key of \(name); the server's \(key.shortType) key is \(key.fingerprint)"
    if let knownHosts {
      let read = knownHosts.filesRead
      text += "; looked in " + (read.isEmpty ? "no file" : read.joined(separator: ", "))
      for unread in knownHosts.filesUnread { text += "; \(unread.file): \(unread.reason)" }
      if let entry = knownHosts.entries.first(where: { $0.mark == .certificateAuthority }) {
        text += "; @cert-authority in \(place(entry)) passed over: libssh2 checks no certificates"
      }
    }
    return refusal(
      .hostKeyUnknown, key, text,
      remedy: "log in once with ssh and compare the fingerprint, or pin it",
      anotherCarrierMayWork: knownHosts?.entries.contains { $0.mark == .certificateAuthority }
        ?? false)
  }

  private func refusal(
    _ reason: SSHError.Reason, _ key: PublicKey, _ text: String, remedy: String,
    at entry: KnownHostEntry? = nil, anotherCarrierMayWork: Bool = false
  ) -> SSHError {
    SSHError(
      endpoint: configuration.endpoint, step: .hostKey, reason: reason, text: text,
      remedy: remedy, anotherCarrierMayWork: anotherCarrierMayWork,
      hostKey: shown(key, at: entry))
  }

  private func shown(_ key: PublicKey, at entry: KnownHostEntry? = nil) -> SSHHostKey {
    SSHHostKey(
      type: key.type, fingerprint: key.fingerprint,
      line: entry.map { SSHHostKey.Line(file: $0.file, number: $0.line) })
  }

  private func place(_ entry: KnownHostEntry) -> String { "\(entry.file) line \(entry.line)" }
}
