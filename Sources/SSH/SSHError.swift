/// Why a connection or a channel failed, what a person should know, and what would work.
public struct SSHError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was going on.
  public enum Step: String, Hashable, Sendable {
    case handshake
    case hostKey = "host key"
    case authentication
    case channel
    case connection
  }

  /// What programs decide by; later versions may add cases.
  public enum Reason: Hashable, Sendable {
    /// libssh2 did not start.
    case libraryUnavailable
    /// Nobody listens at the server's address.
    case refused
    /// The connection ended, in an error or because the server closed it.
    case connectionLost
    /// The server did not answer in time.
    case timedOut
    /// The server said something that libssh2 could not make sense of.
    case protocolFailure
    /// Server and libssh2 have no algorithm in common.
    case noCommonAlgorithm
    /// A limit against a misbehaving server was reached.
    case limitExceeded

    /// No file knows a key of the host.
    case hostKeyUnknown
    /// The files know another key of the same type.
    case hostKeyChanged
    /// The files know only keys of other types.
    case hostKeyOfOtherType
    /// A file revokes the key.
    case hostKeyRevoked
    /// The key is not the pinned one.
    case hostKeyNotPinned
    /// This libssh2 cannot use the type of key that the files know.
    case hostKeyUnusable

    /// The server accepted no key.
    case authenticationDenied

    /// The server forbids such channels.
    case channelForbidden
    /// The server could not connect to what the channel was to lead to. OpenSSH says the same of a
    /// unix socket to which it forbids forwarding.
    case channelUnconnected
    /// There are as many channels as the server, or this connection, allows.
    case channelLimit
    /// The server does not know such channels, or refused without a reason that it has a word for.
    case channelRefused
    /// The server did not start the command.
    case commandRefused
    /// There is no such channel any more, or it was closed for what was asked.
    case channelClosed
  }

  /// The user, host and port as `user@host:port`.
  public let endpoint: String
  public let step: Step
  public let reason: Reason
  /// What happened, in a sentence without a full stop.
  public let text: String
  /// What would work; may be empty.
  public let remedy: String
  /// Whether the system's own `ssh` may get further: it knows algorithms, keys and ways to log in
  /// that this libssh2 does not.
  public let anotherCarrierMayWork: Bool
  /// The host key in question.
  public let hostKey: SSHHostKey?
  /// The keys that were considered, in order.
  public let keyAttempts: [SSHKeyAttempt]

  init(
    endpoint: String, step: Step, reason: Reason, text: String, remedy: String = "",
    anotherCarrierMayWork: Bool = false, hostKey: SSHHostKey? = nil,
    keyAttempts: [SSHKeyAttempt] = []
  ) {
    self.endpoint = endpoint
    self.step = step
    self.reason = reason
    self.text = text
    self.remedy = remedy
    self.anotherCarrierMayWork = anotherCarrierMayWork
    self.hostKey = hostKey
    self.keyAttempts = keyAttempts
  }

  /// One line for a person.
  public var description: String {
    let next = remedy.isEmpty ? "" : "; next: \(remedy)"
    return "ssh \(endpoint): \(step.rawValue): \(text)\(next)"
  }
}

/// The key that a server proved to hold.
public struct SSHHostKey: Hashable, Sendable {
  /// Its type as SSH names it, such as `ssh-ed25519`.
  public let type: String
  /// Its fingerprint as OpenSSH prints it, such as `SHA256:…`.
  public let fingerprint: String
  /// The known_hosts line that decided, `nil` where none did.
  public let line: Line?

  /// A line of a known_hosts file; counted from 1.
  public struct Line: Hashable, Sendable {
    public let file: String
    public let number: Int
  }
}

/// What became of one key that might have logged in.
public struct SSHKeyAttempt: Hashable, Sendable, CustomStringConvertible {
  public enum Outcome: Hashable, Sendable {
    case accepted
    /// The server does not accept it for this user.
    case refused
    /// The server took the key and then not the signature.
    case signatureRefused
    /// An RSA key, for which this libssh2 signs only with SHA-1, as hardly a server allows.
    case needsNewerLibrary
    /// libssh2 has no use for keys of this type.
    case unusableType
    case needsPassphrase
    /// The passphrase is wrong, or libssh2 cannot read the file.
    case unreadable
    /// The file is not there or cannot be opened; the reason in words.
    case missing(String)
    /// Others than its owner may read the file.
    case tooOpen
    /// The agent would not sign with it.
    case agentRefused
  }

  /// Where the key is: a file's path, or `agent` and the key's comment.
  public let source: String
  /// Its type as SSH names it; nil where it is not known.
  public let type: String?
  /// Its fingerprint; nil where it is not known.
  public let fingerprint: String?
  public let outcome: Outcome

  public var description: String {
    let name = [type, fingerprint].compactMap(\.self).joined(separator: " ")
    return "\(source)\(name.isEmpty ? "" : " (\(name))"): \(outcomeText)"
  }

  private var outcomeText: String {
    switch outcome {
    case .accepted: "accepted"
    case .refused: "not accepted by the server"
    case .signatureRefused: "signature not accepted by the server"
    case .needsNewerLibrary: "RSA needs libssh2 1.11 or the system's ssh"
    case .unusableType: "of a type that libssh2 cannot use"
    case .needsPassphrase: "needs its passphrase"
    case .unreadable: "not readable, or the passphrase is wrong"
    case .missing(let reason): reason
    case .tooOpen: "readable by others than its owner"
    case .agentRefused: "not signed by the agent"
    }
  }
}
