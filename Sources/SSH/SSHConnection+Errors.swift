import CSSHTransport
import MigrationEngine
import Platform

extension SSHConnection {
  func error(
    _ step: SSHError.Step, _ reason: SSHError.Reason, _ text: String, remedy: String = "",
    anotherCarrierMayWork: Bool = false
  ) -> SSHError {
    SSHError(
      endpoint: configuration.endpoint, step: step, reason: reason, text: text, remedy: remedy,
      anotherCarrierMayWork: anotherCarrierMayWork)
  }

  func timeout(_ step: SSHError.Step, _ awaited: String) -> SSHError {
    error(
      step, .timedOut, "the server gave no \(awaited) in time",
      remedy: "check that the server runs sshd and that the network lets it answer")
  }

  func chattyServer(_ step: SSHError.Step) -> SSHError {
    error(
      step, .limitExceeded,
      "the server sent more than a login can take, without coming to an end",
      remedy: "check that the port is sshd's")
  }

  /// What the socket, the server's farewell and the limits say; nil while all are well.
  func brokenTransport() -> SSHError? {
    let state = transport.pointee
    switch phase {
    case .closed, .lost: return nil
    case .handshaking, .authenticating, .ready, .closing: break
    }
    if state.memory_exceeded {
      return error(
        currentStep, .limitExceeded, "the server sent more than was offered to receive")
    }
    if state.output_exceeded {
      return error(
        currentStep, .limitExceeded, "the server demands answers and does not take them")
    }
    if state.disconnected { return farewellError }
    for code in [state.receive_errno, state.send_errno] where code != 0 {
      return lossError(SystemError(errno: code, call: .receive))
    }
    if state.peer_ended {
      return error(
        currentStep, .connectionLost, "the server closed the connection", remedy: lossRemedy)
    }
    return nil
  }

  /// The error of a libssh2 call that failed with `status`.
  func callError(_ step: SSHError.Step, _ status: Int32) -> SSHError {
    if let broken = brokenTransport() { return broken }
    let reason: SSHError.Reason =
      status == LIBSSH2_ERROR_TIMEOUT ? .timedOut : .protocolFailure
    return error(
      step, reason,
      "libssh2 \(configuration.library.version) gave up: \(lastLibraryText) (\(status))")
  }

  func handshakeError(_ status: Int32) -> SSHError {
    if status == LIBSSH2_ERROR_KEX_FAILURE, !transport.pointee.disconnected {
      return noCommonAlgorithm
    }
    if let broken = brokenTransport() { return broken }
    return callError(.handshake, status)
  }

  var currentStep: SSHError.Step {
    switch phase {
    case .handshaking: .handshake
    case .authenticating: .authentication
    case .ready, .closing, .lost, .closed: .connection
    }
  }

  /// The words libssh2 has for its last error: fixed English sentences without data of ours.
  var lastLibraryText: String {
    var text: UnsafeMutablePointer<CChar>?
    libssh2_session_last_error(transport.pointee.session, &text, nil, 0)
    return text.map { String(cString: $0) } ?? "no reason given"
  }

  private var lossRemedy: String {
    switch phase {
    case .handshaking: "check that the port is sshd's and that it takes more connections"
    default: ""
    }
  }

  private func lossError(_ cause: SystemError) -> SSHError {
    if cause.refusal == .refused {
      return error(
        currentStep, .refused, "nobody listens on port \(configuration.port)",
        remedy: "check the port, and that sshd runs")
    }
    return error(currentStep, .connectionLost, "connection lost: \(cause.text)")
  }

  private var farewellError: SSHError {
    let words = withUnsafeBytes(of: transport.pointee.disconnect_text) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    let text = "the server ended the connection: \(words.isEmpty ? "no reason given" : words)"
    if case .authenticating(let authentication) = phase {
      return authentication.denied(configuration, text)
    }
    return error(currentStep, .connectionLost, text)
  }

  private var noCommonAlgorithm: SSHError {
    let version = configuration.library.version
    guard !configuration.library.canUseRSASHA2 else {
      return error(
        .handshake, .noCommonAlgorithm,
        "the server and libssh2 \(version) have no algorithm in common",
        remedy: "use the system's ssh", anotherCarrierMayWork: true)
    }
    return error(
      .handshake, .hostKeyUnusable,
      "the server and libssh2 \(version) have no algorithm in common; a server with only an RSA "
        + "host key is beyond libssh2 before 1.11",
      remedy: "give the server an ed25519 host key and make it known, or use the system's ssh",
      anotherCarrierMayWork: true)
  }
}
