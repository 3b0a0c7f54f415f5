/** Certificates for tests over TLS, made by the process itself: no program of the machine's is needed. */
import { generateKeyPair, randomBytes } from "node:crypto";
import { isIP } from "node:net";
import { promisify } from "node:util";
import forge from "node-forge";

const { pki } = forge;
const dayMs = 86_400_000;

/** Both as PEM. */
export interface Certificate {
  readonly key: string;
  readonly certificate: string;
}

export interface Authority {
  /** What clients are to trust, as PEM. */
  readonly certificate: string;
  /** Signs a server's certificate, for these host names and IP addresses. */
  issue(names: readonly string[]): Promise<Certificate>;
}

interface Content {
  readonly commonName: string;
  readonly extensions: object[];
  /** Who signs it. @default itself */
  readonly signer?: { readonly certificate: forge.pki.Certificate; readonly key: forge.pki.rsa.PrivateKey };
}

async function make({ commonName, extensions, signer }: Content) {
  const keys = await promisify(generateKeyPair)("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs1", format: "pem" },
  });
  const key = pki.privateKeyFromPem(keys.privateKey);
  const certificate = pki.createCertificate();
  certificate.publicKey = pki.publicKeyFromPem(keys.publicKey);
  // A positive number: its first bit is 0.
  certificate.serialNumber = `01${randomBytes(8).toString("hex")}`;
  certificate.validity.notBefore = new Date(Date.now() - dayMs);
  certificate.validity.notAfter = new Date(Date.now() + dayMs);
  const subject = [{ name: "commonName", value: commonName }];
  certificate.setSubject(subject);
  certificate.setIssuer(signer?.certificate.subject.attributes ?? subject);
  certificate.setExtensions(extensions);
  certificate.sign(signer?.key ?? key, forge.md.sha256.create());
  return { key, certificate, pem: { key: keys.privateKey, certificate: pki.certificateToPem(certificate) } };
}

/** Each is another one, which who trusts one of them takes for foreign. */
export async function createAuthority(): Promise<Authority> {
  const authority = await make({
    commonName: `Authority of a test ${randomBytes(4).toString("hex")}`,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, critical: true },
    ],
  });
  return {
    certificate: authority.pem.certificate,
    async issue(names) {
      const altNames = names.map((name) => (isIP(name) ? { type: 7, ip: name } : { type: 2, value: name }));
      const extensions = [
        { name: "basicConstraints", cA: false },
        { name: "extKeyUsage", serverAuth: true },
        { name: "subjectAltName", altNames },
      ];
      return (await make({ commonName: names[0] ?? "nobody", extensions, signer: authority })).pem;
    },
  };
}
