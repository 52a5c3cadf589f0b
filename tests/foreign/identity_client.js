// google-auth-library of Node, unmodified: an ID token from the metadata server, verified by the
// library against the published certificates; a service account's key file; impersonation.

const assert = require('assert');
const {GoogleAuth, Impersonated, OAuth2Client} = require('google-auth-library');

const account = process.argv[2];
const {KEY_FILE: keyFile, TARGET_ACCOUNT: target} = process.env;
const audience = 'https://orders-303000000003.europe-west1.run.app';
const scopes = ['https://www.googleapis.com/auth/cloud-platform'];

async function main() {
  const verifier = new OAuth2Client();
  const auth = new GoogleAuth({scopes});
  const client = await auth.getIdTokenClient(audience);
  const token = await client.idTokenProvider.fetchIdToken(audience);
  const ticket = await verifier.verifyIdToken({idToken: token, audience});
  assert.strictEqual(ticket.getPayload().email, account);
  await assert.rejects(verifier.verifyIdToken({idToken: token, audience: 'https://x'}));
  const answer = await client.request({url: 'https://internal.example.com/orders'});
  assert.strictEqual(answer.status, 200);

  const own = await new GoogleAuth({keyFile, scopes}).getIdTokenClient(audience);
  const ownToken = await own.idTokenProvider.fetchIdToken(audience);
  const ownTicket = await verifier.verifyIdToken({idToken: ownToken, audience});
  assert.strictEqual(ownTicket.getPayload().email, account);

  const acting = new Impersonated({
    sourceClient: await auth.getClient(), targetPrincipal: target, targetScopes: scopes,
    lifetime: 600, delegates: [],
  });
  const asTarget = await acting.fetchIdToken(audience, {includeEmail: true});
  const targetTicket = await verifier.verifyIdToken({idToken: asTarget, audience});
  assert.strictEqual(targetTicket.getPayload().email, target);
  console.log('google-auth-library of Node: ok');
}

main().catch(error => { console.error(error); process.exit(1); });
