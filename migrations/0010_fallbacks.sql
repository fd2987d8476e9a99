-- Where else a job may be made, best first: [{"provider","upstream_model","cost_usd"}]; null where nowhere else. A failure that is
-- the provider's own moves the job to the first of these, and what failed goes to their end. Hold and deadline stay.
alter table jobs add column fallbacks jsonb;
