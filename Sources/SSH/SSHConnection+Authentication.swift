import CSSHTransport
import Platform

/// How far a login has come: what the server offers, which keys are left, what became of the others.
final class Authentication {
  enum Candidate {
    case agent(AgentClient.Identity)
    case file(PrivateKeyFile)

    var key: PublicKey? {
      switch self {
      case .agent(let identity): identity.key
      case .file(let file): file.publicKey
      }
    }

    var source: String {
      switch self {
      case .agent(let identity): "agent: \(identity.comment)"
      case .file(let file): file.path
      }
    }

    func attempt(_ outcome: SSHKeyAttempt.Outcome) -> SSHKeyAttempt {
      SSHKeyAttempt(
        source: source, type: key?.type, fingerprint: key?.fingerprint, outcome: outcome)
    }
  }

  enum Stage {
    case askingServer
    case askingAgent
    case choosing
    case trying(Candidate, packetsBefore: UInt64)
  }

  enum Result {
    case waiting
    case accepted(SSHKeyAttempt?)
    case failed(SSHError)
  }

  var stage = Stage.askingServer
  var agent: AgentClient?
  var isAgentSigning = false
  var attempts: [SSHKeyAttempt] = []
  private var waiting: [Candidate] = []
  private let keyFiles: [PrivateKeyFile.Loading]

  init(keyFiles: [PrivateKeyFile.Loading]) { self.keyFiles = keyFiles }

  /// Lines the keys up: the agent's, then the files', each once. RSA keys come last where libssh2
  /// signs with SHA-1: a server counts every refusal, and these are hardly ever taken.
  func lineUp(_ identities: [AgentClient.Identity], canUseRSASHA2: Bool) {
    for identity in identities {
      let candidate = Candidate.agent(identity)
      if identity.key.isUsableForAuthentication {
        waiting.append(candidate)
      } else {
        attempts.append(candidate.attempt(.unusableType))
      }
    }
    for loading in keyFiles {
      switch loading {
      case .unusable(let attempt): attempts.append(attempt)
      case .loaded(let file):
        if !waiting.contains(where: { $0.key != nil && $0.key == file.publicKey }) {
          waiting.append(.file(file))
        }
      }
    }
    guard !canUseRSASHA2 else { return }
    let isRSA = { (candidate: Candidate) in candidate.key?.isRSA ?? false }
    waiting = waiting.filter { !isRSA($0) } + waiting.filter(isRSA)
  }

  func next() -> Candidate? { waiting.isEmpty ? nil : waiting.removeFirst() }

  func denied(_ configuration: SSHConfiguration, _ text: String) -> SSHError {
    var parts = [text] + attempts.prefix(20).map(\.description)
    if attempts.isEmpty { parts.append("no key to try") }
    let newer = attempts.contains { $0.outcome == .needsNewerLibrary }
    return SSHError(
      endpoint: configuration.endpoint, step: .authentication, reason: .authenticationDenied,
      text: parts.joined(separator: "; "),
      remedy: newer
        ? "use an ed25519 key, libssh2 1.11 or newer, or the system's ssh"
        : "put an ed25519 key of yours into the server's authorized_keys",
      anotherCarrierMayWork: true, keyAttempts: attempts)
  }
}

extension SSHConnection {
  func authenticate(_ login: Authentication) -> Authentication.Result {
    while true {
      switch login.stage {
      case .askingServer:
        if let result = askServer(login) { return result }
      case .askingAgent:
        guard askAgent(login) else { return .waiting }
      case .choosing:
        ssh_transport_forget_signature(transport)
        login.isAgentSigning = false
        guard let candidate = login.next() else {
          return .failed(login.denied(configuration, "the server accepted no key"))
        }
        login.stage = .trying(candidate, packetsBefore: transport.pointee.packets_sent)
      case .trying(let candidate, let packetsBefore):
        if let result = attempt(candidate, login, packetsBefore) { return result }
      }
    }
  }

  /// Asks which ways to log in the server offers; nil when there is something to go on with.
  private func askServer(_ login: Authentication) -> Authentication.Result? {
    let session = transport.pointee.session
    let user = configuration.user
    guard let list = libssh2_userauth_list(session, user, UInt32(clamping: user.utf8.count)) else {
      if libssh2_userauth_authenticated(session) != 0 { return .accepted(nil) }
      let status = libssh2_session_last_errno(session)
      return status == LIBSSH2_ERROR_EAGAIN
        ? .waiting : .failed(callError(.authentication, status))
    }
    let methods = String(cString: list)
    guard methods.split(separator: ",").contains("publickey") else {
      return .failed(
        login.denied(configuration, "the server offers no login by key, only \(methods)"))
    }
    openAgent(login)
    return nil
  }

  private func openAgent(_ login: Authentication) {
    let canUseRSASHA2 = configuration.library.canUseRSASHA2
    guard let path = configuration.agentSocket else {
      login.lineUp([], canUseRSASHA2: canUseRSASHA2)
      login.stage = .choosing
      return
    }
    do throws(SystemError) {
      let agent = try AgentClient(socket: path)
      agent.requestIdentities()
      login.agent = agent
      login.stage = .askingAgent
    } catch {
      loseAgent(login, error.text)
      login.lineUp([], canUseRSASHA2: canUseRSASHA2)
      login.stage = .choosing
    }
  }

  /// False while the agent has not answered.
  private func askAgent(_ login: Authentication) -> Bool {
    let canUseRSASHA2 = configuration.library.canUseRSASHA2
    switch login.agent?.step() {
    case .waiting: return false
    case .identities(let identities): login.lineUp(identities, canUseRSASHA2: canUseRSASHA2)
    case .failed(let reason):
      loseAgent(login, reason)
      login.lineUp([], canUseRSASHA2: canUseRSASHA2)
    case .signature, nil:
      login.lineUp([], canUseRSASHA2: canUseRSASHA2)
    }
    login.stage = .choosing
    return true
  }

  private func loseAgent(_ login: Authentication, _ reason: String) {
    login.agent = nil
    login.attempts.append(
      SSHKeyAttempt(
        source: "agent \(configuration.agentSocket ?? "")", type: nil, fingerprint: nil,
        outcome: .missing(reason)))
  }

  /// Tries one key; nil when there is something to go on with.
  private func attempt(
    _ candidate: Authentication.Candidate, _ login: Authentication, _ packetsBefore: UInt64
  ) -> Authentication.Result? {
    let status: Int32 =
      switch candidate {
      case .agent(let identity):
        ssh_transport_authenticate(
          transport, configuration.user, identity.key.blob, identity.key.blob.count)
      case .file(let file): authenticate(by: file)
      }
    if status == 0 {
      let attempt = candidate.attempt(.accepted)
      login.attempts.append(attempt)
      login.agent = nil
      return .accepted(attempt)
    }
    if status == LIBSSH2_ERROR_EAGAIN {
      return signByAgent(candidate, login) ? nil : .waiting
    }
    if let broken = brokenTransport() { return .failed(broken) }
    let sent = transport.pointee.packets_sent - packetsBefore
    login.attempts.append(
      candidate.attempt(outcome(status, of: candidate, packetsSent: sent, login)))
    login.stage = .choosing
    return nil
  }

  private func authenticate(by file: PrivateKeyFile) -> Int32 {
    let session = transport.pointee.session
    let user = configuration.user
    // With the public half at hand libssh2 opens the private one only after the server has
    // accepted the key.
    let publicText = file.publicKey.map {
      Array("\($0.type) \(Base64.encode($0.blob))".utf8CString)
    }
    let publicCount = publicText.map { $0.count - 1 } ?? 0
    return file.text.withBytes { text in
      let authenticate = { (passphrase: UnsafePointer<CChar>?) in
        libssh2_userauth_publickey_frommemory(
          session, user, user.utf8.count, publicText, publicCount, text.baseAddress, text.count,
          passphrase)
      }
      return file.passphrase?.withBytes { authenticate($0.baseAddress) } ?? authenticate(nil)
    }
  }

  /// Has the agent sign what libssh2 waits for; true if libssh2 can go on.
  private func signByAgent(
    _ candidate: Authentication.Candidate, _ login: Authentication
  ) -> Bool {
    guard Int(transport.pointee.signature_state) == Int(SSH_SIGNATURE_WANTED.rawValue),
      case .agent(let identity) = candidate
    else { return false }
    if !login.isAgentSigning {
      let input = UnsafeRawBufferPointer(
        start: transport.pointee.signing_input, count: transport.pointee.signing_input_count)
      login.isAgentSigning = true
      guard let agent = login.agent, agent.requestSignature(by: identity.key, of: Array(input))
      else { return provide([]) }
    }
    switch login.agent?.step() {
    case .waiting: return false
    case .signature(let signature): return provide(signature)
    case .failed(let reason):
      loseAgent(login, reason)
      return provide([])
    case .identities, nil: return provide([])
    }
  }

  private func provide(_ signature: [UInt8]) -> Bool {
    if !ssh_transport_provide_signature(transport, signature, signature.count) {
      ssh_transport_provide_signature(transport, nil, 0)
    }
    return true
  }

  /// What a refusal means. libssh2 tells a key that could not sign from a signature that was not
  /// accepted by words only; how many messages were sent tells it better.
  private func outcome(
    _ status: Int32, of candidate: Authentication.Candidate, packetsSent: UInt64,
    _ login: Authentication
  ) -> SSHKeyAttempt.Outcome {
    if packetsSent == 0 { return .unreadable }
    if status == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED, packetsSent == 1 {
      if case .agent = candidate { return .agentRefused }
      return .unreadable
    }
    if candidate.key?.isRSA ?? false, !configuration.library.canUseRSASHA2 {
      return .needsNewerLibrary
    }
    return packetsSent > 1 ? .signatureRefused : .refused
  }
}
